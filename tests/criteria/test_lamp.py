"""LAMP scores against the paper's formula, by hand and by brute force."""

import pytest
import torch
from pretended_device import PretendedDevice
from torch import nn

from prunelab.core.allocation import Global
from prunelab.core.context import Context
from prunelab.core.granularity import Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.criteria.lamp import LAMP


def score(*weights: torch.Tensor) -> list[torch.Tensor]:
    params = {str(i): nn.Parameter(w) for i, w in enumerate(weights)}
    return list(LAMP()(Context(nn.Module(), params, torch.Generator())).values())


def test_a_weights_square_is_divided_by_those_that_are_no_smaller() -> None:
    [result] = score(torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
    assert result.flatten().tolist() == pytest.approx([1 / 14, 4 / 13, 1.0, 0.0])


def test_it_is_computed_in_float64_on_the_cpu_where_the_device_has_none() -> None:
    with PretendedDevice("mps"):
        [result] = score(torch.tensor([[1.0, -2.0], [3.0, 0.0]], device="mps"))
        assert (result.device.type, result.dtype) == ("cpu", torch.float64)


def test_it_equals_the_formula_on_many_weights() -> None:
    w = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    [result] = score(w)
    squares = w.double().square()
    brute = torch.stack([s / squares[squares >= s].sum() for s in squares.flatten()]).view(w.shape)
    assert torch.allclose(result, brute)


def test_the_scale_of_a_layer_does_not_matter_and_its_best_weight_scores_one() -> None:
    w = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    a, b = score(w, 1e-3 * w)
    assert torch.allclose(a, b)
    assert a.max() == b.max() == 1
    [zeros] = score(torch.zeros(3))
    assert zeros.eq(0).all()


def test_a_tiny_layer_that_global_magnitude_would_empty_keeps_its_share() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 20, bias=False), nn.Linear(20, 20, bias=False))
    with torch.no_grad():
        net[0].weight.mul_(0.01)
    pruner = Pruner(LAMP(), Weight(), Global(), Rounds(rate=0.9, start=0.0))
    pruner.attach(net)
    pruner.update(Progress(0, 10, 1))
    assert sum(int(mask.sum()) for mask in pruner.masks.values()) == 80
    assert int(pruner.masks["0.weight"].sum()) > 30
