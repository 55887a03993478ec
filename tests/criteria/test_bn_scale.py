"""BN scale: |gamma| under the norm's name, and the scores of its units."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelab.channels.units import Filter
from prunelab.core.allocation import Global
from prunelab.core.context import Context
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.criteria.bn_scale import BNScale, norm_scales

EXAMPLE = torch.zeros(2, 1, 4, 4)


class Residual(nn.Module):
    """One block over a stem: the stream has two norms, the inner channels one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3)
        self.inner, self.inner_norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.outer, self.outer_norm = nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 2)
        self.set("norm", 0.5, -0.25, 2.0)
        self.set("outer_norm", -1.5, 0.25, 0.0)
        self.set("inner_norm", -4.0, 0.125, 3.0, 0.5)

    def set(self, norm: str, *scales: float) -> None:
        self.get_submodule(norm).weight.data = torch.tensor(scales)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        x = x + self.outer_norm(self.outer(self.inner_norm(self.inner(x)).relu()))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def pruner(rate: float, n: int = 1) -> Pruner:
    return Pruner(BNScale(), Filter(), Global(), Rounds(rate=rate, n=n, start=0.0))


def test_the_score_is_the_absolute_scale_under_the_name_of_the_norms_weight() -> None:
    net = Residual()
    scores = BNScale()(Context(net, prunable_weights(net), torch.Generator()))
    assert {name: score.tolist() for name, score in scores.items()} == {
        "norm.weight": [0.5, 0.25, 2.0],
        "inner_norm.weight": [4.0, 0.125, 3.0, 0.5],
        "outer_norm.weight": [1.5, 0.25, 0.0],
    }
    assert not any(score.requires_grad for score in scores.values())


def test_group_norms_have_scales_and_norms_without_parameters_have_none() -> None:
    net = nn.Sequential(nn.GroupNorm(2, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 4), nn.BatchNorm1d(4))
    assert list(norm_scales(net)) == ["0.weight", "3.weight"]


def test_a_channel_with_two_norms_scores_their_mean_and_global_pruning_takes_the_lowest() -> None:
    """By hand: the stream (0.5 + 1.5, 0.25 + 0.25, 2 + 0) / 2 = (1, 0.25, 1), inside (4, 0.125, 3, 0.5)."""
    net, prune = Residual(), pruner(3 / 7)
    prune.attach(net, EXAMPLE)
    prune.update(Progress(0, 10, 1))
    assert {name: keep.tolist() for name, keep in prune.keep.items()} == {
        "stem.weight": [True, False, True],
        "inner.weight": [True, False, True, False],
    }
    assert net.norm.weight.tolist() == [0.5, 0.0, 2.0]
    assert net.inner_norm.weight.tolist() == [-4.0, 0.0, 3.0, 0.0]


def test_what_the_first_round_removed_stays_removed_in_the_second() -> None:
    net, prune = Residual(), pruner(3 / 7, n=2)
    prune.attach(net, EXAMPLE)
    prune.update(Progress(0, 10, 1))
    first = {name: keep.clone() for name, keep in prune.keep.items()}
    assert sum(int((~keep).sum()) for keep in first.values()) == 2
    with torch.no_grad():
        net.norm.weight.fill_(0), net.outer_norm.weight.fill_(0)  # as low as what is gone
    prune.update(Progress(10, 10, 1))
    assert sum(int((~keep).sum()) for keep in prune.keep.values()) == 3
    assert not any((prune.keep[name] & ~keep).any() for name, keep in first.items())


def test_channels_without_a_norm_are_refused_by_name() -> None:
    net = Residual()
    net.inner_norm = nn.Identity()
    prune = pruner(0.5)
    prune.attach(net, EXAMPLE)
    with pytest.raises(ValueError, match=r"does not score inner\.weight"):
        prune.update(Progress(0, 10, 1))


def test_a_net_without_norms_is_refused() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="has no norm with a scale: choose another criterion"):
        BNScale()(Context(net, prunable_weights(net), torch.Generator()))
