"""The overlap of masks is that of sets of weights; masks that do not compare are left out with a note."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from charting import only, svg, values

from prunelab.job.rounds import write_masks
from prunelab.report.figures import overlap
from prunelab.report.figures.catalogue import notes

Add = Callable[..., Path]
A = {"a": torch.tensor([[1, 1, 0, 0, 1]]).bool(), "b": torch.tensor([1, 0, 1, 0, 1, 0, 1, 0, 1]).bool()}
B = {"a": torch.tensor([[1, 0, 1, 0, 1]]).bool(), "b": torch.tensor([0, 0, 1, 0, 1, 0, 1, 1, 1]).bool()}


@pytest.fixture
def masked(add: Add) -> Callable[..., Path]:
    def make(masks: dict[str, torch.Tensor], *args: Any, **changes: Any) -> Path:
        job = add(*args, **changes)
        (job / "masks").mkdir()
        write_masks(job / overlap.MASKS, masks)
        return job

    return make


def kept(masks: dict[str, torch.Tensor]) -> set[tuple[str, int]]:
    return {(name, i) for name, mask in masks.items() for i in mask.flatten().nonzero().flatten().tolist()}


def test_iou_is_that_of_the_sets_of_kept_weights(masked: Callable[..., Path]) -> None:
    a, b = (overlap.read(masked(m, "usp", 0.4, seed) / overlap.MASKS) for seed, m in enumerate((A, B)))
    assert overlap.iou(a, b) == overlap.iou(b, a) == len(kept(A) & kept(B)) / len(kept(A) | kept(B)) == 6 / 10
    assert overlap.iou(a, a) == 1


def test_chance_is_the_iou_of_random_masks_as_dense_in_each_layer(masked: Callable[..., Path]) -> None:
    generator = torch.Generator().manual_seed(0)
    densities = {"a": (0.9, 0.8), "b": (0.1, 0.2)}
    a, b = (
        overlap.read(
            masked({n: torch.rand(100_000, generator=generator) < d[i] for n, d in densities.items()}, "usp", 0.4, i)
            / overlap.MASKS
        )
        for i in (0, 1)
    )
    assert overlap.chance(a, b) == pytest.approx(overlap.iou(a, b), abs=5e-3)


def test_the_matrix_has_every_pair_of_a_rate(masked: Callable[..., Path]) -> None:
    for method, seed, masks in (("usp", 0, A), ("usp", 1, B), ("sp", 0, B)):
        job = masked(masks, method, 0.4, seed)
    masked(A, "usp", 0.8)
    group = only(job.parent)
    [(name, draw)] = overlap.charts(group).items()
    assert name == "mask_overlap-rate=0.4"
    spec = draw()
    rows = values(spec)
    ious = {(row["a"], row["b"]): row["iou"] for row in rows}
    assert len(ious) == 9
    assert ious["seed 0, usp", "seed 1, usp"] == 0.6
    assert ious["seed 1, usp", "seed 0, sp"] == 1
    assert ">seed 0, usp</text>" in svg(spec)


def test_masks_of_different_networks_are_not_compared_and_damage_is_named(
    masked: Callable[..., Path], add: Add
) -> None:
    a = overlap.read(masked(A, "usp", 0.4) / overlap.MASKS)
    other = overlap.read(masked({"a": A["a"]}, "usp", 0.5) / overlap.MASKS)
    assert overlap.iou(a, other) is None
    job = masked(A, "usp", 0.6)
    (job / overlap.MASKS).write_bytes((job / overlap.MASKS).read_bytes()[:40])
    with pytest.raises(ValueError, match=r"last.safetensors: not a complete file of masks"):
        overlap.read(job / overlap.MASKS)


def test_rates_with_more_jobs_than_a_matrix_shows_are_noted(masked: Callable[..., Path]) -> None:
    for seed in range(overlap.MOST + 1):
        job = masked(A, "usp", 0.4, seed)
    group = only(job.parent)
    assert overlap.charts(group) == {}
    assert notes("Overlap of masks", [group]) == ("Not drawn: rates with more than 24 jobs (0.4).",)
