"""Parts of a method fit together by their capabilities, so a new one needs no change elsewhere."""

import pytest
import torch
from torch import nn
from toy_parts import Even, Pairs

from prunelab.core.allocation import ERK, Allocation, Explicit, Global, Uniform, Zeros
from prunelab.core.granularity import NM, Granularity, Weight
from prunelab.core.pruner import Pruner
from prunelab.core.regrow import Regrow
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.criteria.bn_scale import BNScale
from prunelab.criteria.gradient import Gradient
from prunelab.criteria.norm import Norm


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))


def masks(granularity: Granularity, allocation: Allocation, criterion=None, **options) -> dict[str, torch.Tensor]:
    pruner = Pruner(criterion or Norm(), granularity, allocation, Rounds(rate=0.5, start=0.0), **options)
    pruner.attach(net())
    pruner.update(Progress(0, 10, 5))
    return pruner.masks


@pytest.mark.parametrize("granularity", [NM(m=4), NM(m=2), Pairs()])
def test_groups_take_any_even_allocation(granularity: Granularity) -> None:
    expected = masks(granularity, Uniform())
    assert all(mask.unflatten(1, (-1, 4)).sum(2).eq(2).all() for mask in expected.values())
    for allocation in (Even(), Global()):
        others = masks(granularity, allocation)
        assert all(torch.equal(mask, expected[name]) for name, mask in others.items())


def test_two_of_four_by_hand() -> None:
    pruner = Pruner(Norm(), Pairs(), Even(), Rounds(rate=0.5, start=0.0))
    layer = nn.Linear(4, 1, bias=False)
    layer.weight.data = torch.tensor([[0.1, -0.4, 0.3, 0.2]])
    pruner.attach(layer)
    pruner.update(Progress(0, 10, 5))
    assert pruner.masks["weight"].tolist() == [[False, True, True, False]]


@pytest.mark.parametrize("granularity", [NM(), Pairs()])
@pytest.mark.parametrize("allocation", [ERK(), Zeros(), Explicit({}, 0.5)])
def test_groups_refuse_an_allocation_that_is_not_even(granularity: Granularity, allocation: Allocation) -> None:
    kind = type(allocation).__name__
    with pytest.raises(ValueError, match=f"N:M takes as much from every group, {kind} does not"):
        masks(granularity, allocation)


@pytest.mark.parametrize("granularity", [NM(), Pairs()])
def test_nothing_regrows_in_groups(granularity: Granularity) -> None:
    with pytest.raises(ValueError, match="regrow: only single weights come back from 0"):
        masks(granularity, Uniform(), regrow=Regrow(Norm(), Gradient()))


@pytest.mark.parametrize("granularity", [Weight(), NM(), Pairs()])
def test_single_weights_refuse_a_criterion_of_channels(granularity: Granularity) -> None:
    with pytest.raises(ValueError, match="BNScale scores channels, not single weights"):
        masks(granularity, Uniform(), BNScale())
