"""Penalties on groups of parameters: norm scales (slimming), or whole structures (SSL)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from prunelab.channels.units import PrunableStructure, prunable_structure
from prunelab.core.granularity import Granularity
from prunelab.core.penalty import Penalty, Reach, Travel
from prunelab.core.prunable import layer_weights


@dataclass(frozen=True)
class Cut:
    """A parameter cut into pieces that belong to groups."""

    name: str
    param: nn.Parameter
    axes: tuple[int, ...]  # it is cut along
    groups: Tensor  # the group's number for each piece, -1 for none: (pieces,)

    def lengths(self, order: float = 2.0) -> Tensor:
        """The norm of each piece, in the shape of the parameter with 1 along axes that are not cut."""
        wide = self.param.detach().unsqueeze(-1)  # an axis to sum over where every axis is cut
        others = [axis for axis in range(wide.dim()) if axis not in self.axes]
        dtype = torch.promote_types(wide.dtype, torch.float32)
        return torch.linalg.vector_norm(wide, order, others, keepdim=True, dtype=dtype).squeeze(-1)


class Groups:
    """Pieces of parameters by the number of their group.

    Sums gather in a fixed order: with atomic additions, as of index_add_ on a GPU, the ranks of a distributed
    training would drift apart.
    """

    def __init__(self, cuts: Sequence[Cut]) -> None:
        self.cuts = [cut for cut in cuts if (cut.groups >= 0).any()]
        device = self.cuts[0].param.device
        numbers = torch.cat([cut.groups for cut in self.cuts])
        values, group = numbers.unique(return_inverse=True)  # -1, if present, comes first
        group = group - int((values < 0).any())  # -1 again, and numbers from 0
        self._pieces = _members(group).to(device)  # (groups, most pieces of one)
        self._group = group.to(device)  # (pieces,); -1 has the last factor
        weights = [torch.full((len(cut.groups),), cut.param.numel() // len(cut.groups)) for cut in self.cuts]
        self.sizes = self._sum(torch.cat(weights).to(device))  # weights in each group: (groups,)

    def _sum(self, of_pieces: Tensor) -> Tensor:
        return torch.cat([of_pieces, of_pieces.new_zeros(1)])[self._pieces].sum(1)

    def _lengths(self, order: float) -> Tensor:
        return torch.cat([cut.lengths(order).flatten() for cut in self.cuts])

    def norms(self) -> Tensor:
        """The Euclidean norm of each group: (groups,)."""
        return self._sum(self._lengths(2.0).square()).sqrt()

    def zeros(self) -> Tensor:
        """Whether each group is exactly 0: (groups,), bool. By maxima, as squares of tiny weights are 0."""
        return self._sum((self._lengths(torch.inf) != 0).float()) == 0

    def scale(self, factors: Tensor) -> None:
        """Multiplies each group by its factor: (groups,)."""
        of_pieces = torch.cat([factors, factors.new_ones(1)])[self._group]
        with torch.no_grad():
            for cut, factor in zip(self.cuts, of_pieces.split([len(c.groups) for c in self.cuts]), strict=True):
                shape = [n if axis in cut.axes else 1 for axis, n in enumerate(cut.param.shape)]
                cut.param.mul_(factor.view(shape))


def _members(group: Tensor) -> Tensor:
    """The pieces of each group, padded with the number of all pieces: (groups, most of one group)."""
    order = group.argsort(stable=True)
    order = order[group[order] >= 0]
    counts = group[order].bincount()
    position = torch.arange(len(order)) - (counts.cumsum(0) - counts)[group[order]]
    table = torch.full((len(counts), int(counts.max())), len(group))
    table[group[order], position] = order
    return table


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
        per_gamma = reach.proximal if self.proximal else reach.gradient
        return (
            replace(self, gamma=PAPER if per_gamma is None else self.travel / per_gamma) if self.gamma is None else self
        )

    def bind(self, net: nn.Module, granularity: Granularity) -> Self:
        scales = {id(m.weight) for m in net.modules() if isinstance(m, _BatchNorm | nn.GroupNorm)}
        cuts = [cut for cut in _filters(net, granularity) if id(cut.param) in scales]
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
        scales, most = self._scales, list(torch._foreach_mul(self.pulled, [rates[name] for name in self.params]))
        within = list(torch._foreach_maximum(scales, list(torch._foreach_neg(most))))
        torch._foreach_minimum_(within, most)
        torch._foreach_sub_(scales, within)  # s - clip(s, -t, t): exactly 0 where |s| <= t

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

    - "filters": all rows of a unit in the layers that make it, with the bias, scale and shift of its norms (eq. 3);
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
        return replace(self, gamma=self.travel / reach.proximal) if self.gamma is None else self

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


def _filters(net: nn.Module, granularity: Granularity) -> list[Cut]:
    """What makes a unit and belongs to it, without what reads it."""
    layers, params = layer_weights(net), dict(net.named_parameters())
    return [
        Cut(name, params[name], (axis,), units)
        for (name, axis), units in _channel_units(granularity).places.items()
        if name in params and not (name in layers and axis == 1)
    ]


def _channels(net: nn.Module, granularity: Granularity) -> list[Cut]:
    layers, places = layer_weights(net), _channel_units(granularity).places
    read = {name: units for (name, axis), units in places.items() if axis == 1 and name in layers}
    most = max((int(units.max()) for units in read.values()), default=0) + 1
    return [  # separate numbers for each layer
        Cut(name, layers[name], (1,), units.where(units < 0, units + i * most))
        for i, (name, units) in enumerate(read.items())
    ]


def _shapes(net: nn.Module, granularity: Granularity) -> list[Cut]:
    layers, cuts, first = layer_weights(net), list[Cut](), 0
    for name in _channel_units(granularity).makers:
        positions = layers[name][0].numel()
        axes = tuple(range(1, layers[name].dim()))
        cuts.append(Cut(name, layers[name], axes, torch.arange(first, first + positions)))
        first += positions
    return cuts


def _depth(net: nn.Module, granularity: Granularity) -> list[Cut]:
    units = prunable_structure(granularity)
    if units is None or not units.members:
        kind = type(granularity).__name__
        raise ValueError(f"over=depth penalises blocks, units are of kind {kind}: use prune/granularity=block")
    params = dict(net.named_parameters())
    return [Cut(name, params[name], (), torch.tensor([block])) for name, block in units.members.items()]


CUTS: dict[str, Callable[[nn.Module, Granularity], list[Cut]]] = {
    "filters": _filters,
    "channels": _channels,
    "shapes": _shapes,
    "depth": _depth,
}


def _channel_units(granularity: Granularity) -> PrunableStructure:
    units = prunable_structure(granularity)
    if units is None or not units.places:
        kind = type(granularity).__name__
        raise ValueError(f"this penalty is on channels, units are of kind {kind}: use prune/granularity=filter")
    return units


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
