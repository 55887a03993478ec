"""FPGM against loops over all pairs of filters, and a masked layer against the smaller one."""

import math

import pytest
import torch
from torch import Tensor, nn

from prunelab.channels.units import Filter
from prunelab.core.allocation import Uniform
from prunelab.core.context import Context
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.criteria.fpgm import FPGM


def score(weight: Tensor) -> Tensor:
    return FPGM()(Context(nn.Module(), {"w": nn.Parameter(weight)}, torch.Generator()))["w"]


def by_loops(weight: Tensor) -> list[float]:
    rows = [row.flatten().tolist() for row in weight]
    return [sum(math.dist(a, b) for b in rows) for a in rows]


@pytest.mark.parametrize("shape", [(6, 3, 3, 3), (40, 4, 3, 3), (5, 7), (4, 2, 5), (1, 3)])
def test_a_filter_scores_the_sum_of_its_distances_spread_evenly_over_its_weights(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = score(weight)
    assert result.shape == weight.shape
    rows = result.flatten(1)
    assert (rows == rows[:, :1]).all()
    assert rows.sum(1).tolist() == pytest.approx(by_loops(weight), rel=1e-6)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_filter_of_a_transposed_convolution_is_what_makes_an_output_channel(groups: int) -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, groups=groups)
    scores = FPGM()(Context(layer, {"weight": layer.weight}, torch.Generator()))["weight"]
    inputs, outputs = 4 // groups, 6 // groups
    places = [(slice(g * inputs, (g + 1) * inputs), o) for g in range(groups) for o in range(outputs)]
    expected = by_loops(torch.stack([layer.weight.detach()[place] for place in places]))
    assert [scores[place].sum().item() for place in places] == pytest.approx(expected, rel=1e-6)
    assert all(scores[place].unique().numel() == 1 for place in places)


def test_filters_that_are_nearly_alike_keep_their_distance() -> None:
    """In float32, by matrix products, it would be lost among the rounding errors of their length."""
    weight = torch.randn(1, 64, generator=torch.Generator().manual_seed(0)).repeat(30, 1) * 10
    weight[:, 0] += torch.arange(30) * 1e-3
    assert score(weight).sum(1).tolist() == pytest.approx(by_loops(weight), rel=1e-4)


def test_a_masked_layer_scores_as_the_smaller_one() -> None:
    weight = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    gone, alive = [1, 6], [0, 2, 3, 4, 5, 7]
    small = score(weight[alive][:, 1:])
    weight[gone], weight[:, 0] = 0, 0
    masked = score(weight)
    assert masked[alive].flatten(1).sum(1).tolist() == pytest.approx(small.flatten(1).sum(1).tolist())


def test_the_central_filter_goes_and_not_the_smallest() -> None:
    """1, 2 and 4 on a line: distances 1 + 3, 1 + 2 and 3 + 2."""
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Flatten(), nn.Linear(3, 1))
    net[0].weight.data = torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1, 1)
    pruner = Pruner(FPGM(), Filter(), Uniform(), Rounds(rate=1 / 3, start=0.0))
    pruner.attach(net, torch.zeros(1, 1, 1, 1))
    pruner.update(Progress(0, 10, 1))
    assert pruner.keep["0.weight"].tolist() == [True, False, True]
