"""Penalties on groups of parameters: norm scales (slimming), or whole structures (SSL)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from prunelab.channels.groups import CUTS, Cut, Groups, filters
from prunelab.core.granularity import Granularity
from prunelab.core.numbers.soft_threshold import soft_threshold_
from prunelab.core.penalty import Penalty, Reach, Travel

Over = Literal["filters", "channels", "shapes", "depth"]
PAPER = 1e-4  # lambda of Liu et al. 2017


@dataclass(frozen=True)
class ScaleL1(Penalty):
    """gamma * sum |s| over the norm scales of the units (Liu et al. 2017, eq. 1), network slimming.

    As in the paper, its sub-gradient, which is 0 at 0, is added to that of the loss, and scales hover around zero;
    with `proximal`, a soft threshold of lr * gamma after the step makes exact zeros. A group is a unit with all its
    scales. Without a `gamma` it follows from the length of the training, so that a scale which nothing else moves
    loses `travel`: 5.9 in the paper, on VGG, from a start of 0.5. Optimizers that normalise gradients (Adam) move such
    a scale by the learning rate, whatever gamma is: it is the paper's then. Norms as they are built, with all scales
    1, `start` there if given.

    Raises ValueError for units that are not channels, and where none has a norm.
    """

    gamma: float | None = None
    proximal: bool = False
    groups: Groups | None = field(default=None, repr=False, compare=False)
    pulled: list[Tensor] = field(default_factory=list, repr=False, compare=False)  # gamma at scales of units, else 0
    travel: float = 5.9
    start: float | None = None

    def __post_init__(self) -> None:
        _check(self.gamma, self.travel)

    def planned(self, reach: Reach) -> Self:
        if self.gamma is not None:
            return self
        per_gamma = reach.proximal if self.proximal else reach.gradient
        return replace(self, gamma=PAPER if per_gamma is None else reach.gamma(self.travel, per_gamma))

    def bind(self, net: nn.Module, granularity: Granularity) -> Self:
        scales = {id(m.weight) for m in net.modules() if isinstance(m, _BatchNorm | nn.GroupNorm)}
        cuts = [cut for cut in filters(net, granularity) if id(cut.param) in scales]
        groups = _together(cuts, net, "norm behind its units")
        pulled = [_settled(self.gamma) * (cut.groups >= 0).to(cut.param) for cut in groups.cuts]
        return replace(self, groups=groups, pulled=pulled)

    @property
    def params(self) -> Mapping[str, nn.Parameter]:
        return _params(self.groups)

    def begin(self) -> None:
        for scale in self._scales:
            if self.start is not None and bool((scale == 1).all()):
                scale.fill_(self.start)

    def travel_over(self, reach: Reach) -> Travel:
        gamma, per_gamma = _settled(self.gamma), reach.proximal if self.proximal else reach.gradient
        nearest = min(float(scale.abs().min()) for scale in self._scales)
        return Travel(gamma, reach.proximal if per_gamma is None else gamma * per_gamma, nearest)

    def before_step(self) -> None:
        if self.proximal:
            return
        pull = list(torch._foreach_sign(self._scales))
        torch._foreach_mul_(pull, self.pulled)
        for scale, slope in zip(self.params.values(), pull, strict=True):
            if scale.grad is not None:  # not for a norm without part in this step
                scale.grad.add_(slope)

    def after_step(self, rates: Mapping[str, float]) -> None:
        if not self.proximal:
            return
        soft_threshold_(self._scales, list(torch._foreach_mul(self.pulled, [rates[name] for name in self.params])))

    @property
    def _scales(self) -> list[Tensor]:
        return [scale.detach() for scale in self.params.values()]

    def zeros(self) -> Tensor:
        return _bound(self.groups).zeros()


@dataclass(frozen=True)
class GroupLasso(Penalty):
    """gamma * sum over groups of ||w_g||, proximal (Wen et al. 2016, structured sparsity learning).

    After the step w_g becomes w_g * max(0, 1 - lr * gamma * sqrt(n_g) / ||w_g||), n_g the number of its weights, so
    that large and small groups are pulled alike (Yuan & Lin 2006). `by_size=False` leaves sqrt(n_g) out, as the
    paper does. lr is the plain learning rate with any optimizer. Without a `gamma` it follows from the length of the
    training, so that the root mean square of a group (or its norm, with by_size=False) loses `travel`.

    - "filters": all weights of a unit in the layers that make it, with the bias, scale and shift of its norms (eq. 3);
    - "channels": the weights of a layer that read one unit, W[:, c] (eq. 3); nothing of the unit itself;
    - "shapes": a layer's weights at one position of all filters, W[:, c, y, x] (eq. 4); removes no unit;
    - "depth": all parameters of a block (eq. 5).

    Raises ValueError for units of another kind, at the first step where the learning rates of its parameters
    differ, and for a gamma that is no number >= 0.
    """

    gamma: float | None = None
    over: Over = "filters"
    by_size: bool = True
    groups: Groups | None = field(default=None, repr=False, compare=False)
    pulls: Tensor | None = field(default=None, repr=False, compare=False)  # gamma * sqrt(n_g)
    travel: float = 0.2

    def __post_init__(self) -> None:
        _check(self.gamma, self.travel)
        if self.over not in CUTS:
            raise ValueError(f"over={self.over!r}: expected one of {', '.join(CUTS)}")

    def planned(self, reach: Reach) -> Self:
        return replace(self, gamma=reach.gamma(self.travel, reach.proximal)) if self.gamma is None else self

    def bind(self, net: nn.Module, granularity: Granularity) -> Self:
        groups = _together(CUTS[self.over](net, granularity), net, f"{self.over} of its units")
        return replace(self, groups=groups, pulls=_settled(self.gamma) * self._roots(groups))

    def _roots(self, groups: Groups) -> Tensor:
        sizes = groups.sizes if self.by_size else torch.ones_like(groups.sizes)
        return sizes.to(groups.norms()).sqrt()

    def travel_over(self, reach: Reach) -> Travel:
        gamma, groups = _settled(self.gamma), _bound(self.groups)
        return Travel(gamma, gamma * reach.proximal, float((groups.norms() / self._roots(groups)).min()))

    @property
    def params(self) -> Mapping[str, nn.Parameter]:
        return _params(self.groups)

    def after_step(self, rates: Mapping[str, float]) -> None:
        if len(different := set(rates.values())) > 1:
            raise ValueError(f"a group lasso needs one learning rate for all of its parameters, there are {different}")
        groups = _bound(self.groups)
        assert self.pulls is not None
        norms = groups.norms()
        left = (norms - different.pop() * self.pulls).clamp(min=0)
        groups.scale(left / norms.clamp(min=torch.finfo(norms.dtype).tiny))  # 0 / 0 would be NaN

    def zeros(self) -> Tensor:
        return _bound(self.groups).zeros()


def _together(cuts: list[Cut], net: nn.Module, what: str) -> Groups:
    if not any((cut.groups >= 0).any() for cut in cuts):
        raise ValueError(f"{type(net).__name__}: nothing to penalise, it has no {what}")
    return Groups(cuts)


def _params(groups: Groups | None) -> Mapping[str, nn.Parameter]:
    return {cut.name: cut.param for cut in _bound(groups).cuts}


def _bound(groups: Groups | None) -> Groups:
    assert groups is not None, "bind it to a network first"
    return groups


def _settled(gamma: float | None) -> float:
    if gamma is None:
        raise ValueError("gamma=None follows from the length of a training: use the callback Penalize, or give gamma")
    return gamma


def _check(gamma: float | None, travel: float) -> None:
    for name, value in {"gamma": 0.0 if gamma is None else gamma, "travel": travel}.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}={value}: expected a number >= 0")
