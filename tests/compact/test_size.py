"""Entropy bounds by hand, and file sizes close to them."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from prunelab.channels.plan import Plan
from prunelab.compact.codec import encode, entropy, size
from prunelab.compact.file import save


def test_entropy_by_hand() -> None:
    assert entropy(8, 4) == 8
    assert entropy(4, 1) == pytest.approx(4 * (0.25 * 2 + 0.75 * math.log2(4 / 3)))
    assert entropy(9, 0) == entropy(9, 9) == entropy(0, 0) == 0


def test_a_size_by_hand() -> None:
    half = torch.tensor([[1.0, 0.0] * 800])
    measured = size(5000, [encode(half), encode(half, "float16"), encode(torch.ones(3)), encode(torch.zeros(5))])
    assert measured.bytes == 5000
    assert measured.dense == 2 * 6400 + 12 + 20
    assert measured.bound == (200 + 3200) + (200 + 1600) + 12
    assert measured.footprint == 800 * 32 + 800 * 16 + 3 * 32
    assert measured.header == 5000 - (200 + 3200) - (200 + 1600) - 12
    assert measured.ratio == 5000 / 5212
    assert measured.signs == 0
    assert size(9, []).ratio == math.inf


def test_signs_of_zeros_are_counted_apart() -> None:
    measured = size(5000, [encode(torch.tensor([1.0, -0.0] * 800))])
    assert measured.signs == 200
    assert measured.bound == 200 + 3200


@pytest.mark.parametrize("values", ["float32", "float16", "int8"])
@pytest.mark.parametrize("rate", [0.0, 0.5, 0.8, 0.9, 0.95, 0.985])
def test_a_file_of_random_masks_is_within_10_percent_of_its_bound(rate: float, values: str, tmp_path: Path) -> None:
    stream, net = torch.Generator().manual_seed(0), nn.Sequential(nn.Conv2d(64, 100, 3), nn.Linear(2000, 500))
    with torch.no_grad():
        for weight in (net[0].weight, net[1].weight):
            weight.masked_fill_(torch.rand(weight.shape, generator=stream) < rate, 0)
    measured = save(tmp_path / "net", net, Plan(), None, {}, values)
    assert measured.bytes == (tmp_path / "net").stat().st_size
    assert measured.dense == sum(t.nbytes for t in net.state_dict().values())
    assert measured.ratio < 1.1
    if values == "float32":
        assert measured.footprint == 32 * sum(int(t.count_nonzero()) for t in net.state_dict().values())
