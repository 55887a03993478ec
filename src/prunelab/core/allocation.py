"""Allocations: how many units each layer loses."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from prunelab.core.granularity import Granularity
from prunelab.core.network.prunable import layer_weights
from prunelab.core.numbers.counts import erk_counts, shared_counts
from prunelab.core.numbers.selection import keep_top, pruned_count, refuse_nan
from prunelab.core.types import Masks, Scores

log = logging.getLogger(__name__)
MasksAt = Callable[[float], Masks]
Ends = tuple[str, str]  # the names of the first and the last layer


class Allocation(ABC):
    """Chooses the units to keep. Every layer keeps at least its best unit: without one the network is dead."""

    by_layer: ClassVar[bool] = False  # whether a layer's mask is independent of the scores of other layers
    even: ClassVar[bool] = False  # whether groups whose scores are alike lose the same share of their units
    own_rates: ClassVar[bool] = False  # whether it decides itself how much is removed, so that a rate cannot be tried
    as_found: ClassVar[bool] = False  # whether the weights before training decide, so that these can be tried

    def bind(self, net: nn.Module, granularity: Granularity) -> Self:
        """This allocation for one network, which may have layers that are no units, as they are skipped.

        `granularity` is bound to it.
        """
        return self

    @abstractmethod
    def __call__(self, units: Scores, rate: float) -> Masks:
        """Bool masks in the shapes of `units`, with `rate` of the units False. Raises ValueError on NaN scores."""

    def masks_at(self, units: Scores) -> MasksAt:
        """`rate -> self(units, rate)`, to the bit, for many rates: an allocation that can sorts the scores once.

        Raises ValueError on NaN scores.
        """
        refuse_nan(units)
        return lambda rate: self(units, rate)


@dataclass(frozen=True)
class Uniform(Allocation):
    """The same rate in every layer: `round(rate * n)` of its n units."""

    by_layer: ClassVar[bool] = True
    even: ClassVar[bool] = True

    def __call__(self, units: Scores, rate: float) -> Masks:
        return {name: _keep_in_layer(name, score, rate) for name, score in units.items()}

    def masks_at(self, units: Scores) -> MasksAt:
        if type(self).__call__ is not Uniform.__call__:
            return super().masks_at(units)
        refuse_nan(units)
        ranks = {name: _ranks(score) for name, score in units.items()}

        def masks(rate: float) -> Masks:
            return {name: rank < max(1, _kept(rank.numel(), rate)) for name, rank in ranks.items()}

        return masks


@dataclass(frozen=True)
class Explicit(Allocation):
    """A rate of its own for each layer that matches a pattern of `rates`, the first that does; `rate` for the others.

    While a schedule ramps up to `target`, the layers' own rates ramp up with it; at 0 nothing is pruned anywhere.
    """

    by_layer: ClassVar[bool] = True
    own_rates: ClassVar[bool] = True
    rates: Mapping[str, float]
    target: float

    def __call__(self, units: Scores, rate: float) -> Masks:
        found = {name: next((p for p in self.rates if fnmatch(name, p)), None) for name in units}
        for pattern, own in self.rates.items():
            if not (isinstance(own, int | float) and 0 <= own < 1):
                raise ValueError(f"rates[{pattern!r}]={own}: expected a fraction in [0, 1)")
            if pattern not in found.values():
                before = any(fnmatch(name, pattern) for name in units)
                why = "matches only layers that one before it matches" if before else "matches no layer"
                raise ValueError(f"rates[{pattern!r}] {why}; there are: {', '.join(units)}")
        share = rate / self.target if self.target else 0.0
        rates = {name: rate if pattern is None else share * self.rates[pattern] for name, pattern in found.items()}
        return {name: _keep_in_layer(name, score, rates[name]) for name, score in units.items()}


@dataclass(frozen=True)
class Global(Allocation):
    """One threshold for all layers: `round(rate * n)` of all n units."""

    even: ClassVar[bool] = True

    def __call__(self, units: Scores, rate: float) -> Masks:
        refuse_nan(units)
        flat = torch.cat([_wide(score) for score in units.values()])
        k = _kept_in_all(units, rate)
        keep = _split(keep_top(flat, k), units)
        if empty := [name for name, mask in keep.items() if not mask.any()]:
            log.warning("a global threshold at rate=%g empties %s: its best unit is kept", rate, ", ".join(empty))
            # In every layer: a unit spared in one is taken from another, which may have no other unit left.
            spared = [_spare_best(score) for score in units.values()]
            keep = _split(keep_top(torch.cat(spared), k), units)
        return keep

    def masks_at(self, units: Scores) -> MasksAt:
        if type(self).__call__ is not Global.__call__:
            return super().masks_at(units)
        refuse_nan(units)
        flat = _ranks(torch.cat([_wide(score) for score in units.values()]))
        ranks = _split(flat, units)
        last = max(int(rank.min()) for rank in ranks.values())  # among the best of each layer

        def masks(rate: float) -> Masks:
            kept = _kept(len(flat), rate)
            if kept <= last:  # a layer would be empty: its best unit is spared and named, or the rate refused
                return self(units, rate)
            return {name: rank < kept for name, rank in ranks.items()}

        return masks


@dataclass(frozen=True)
class ERK(Allocation):
    """Erdos-Renyi-Kernel (Evci et al. 2020): smaller layers keep a larger share.

    A layer's density is proportional to the sum of its dimensions over their product, and at most 1. Exactly
    `round(rate * n)` units of the whole network are removed. `dense_first` leaves the first layer that is trained
    whole, skipped or not, as the authors' CIFAR-10 script does. Raises ValueError for a rate that the others cannot
    meet.
    """

    dense_first: bool = False
    ends: Ends | None = field(default=None, repr=False, compare=False)  # of the network; unbound, of the units

    def bind(self, net: nn.Module, granularity: Granularity) -> Self:
        return replace(self, ends=_trained_ends(net))

    def __call__(self, units: Scores, rate: float) -> Masks:
        refuse_nan(units)
        total = _kept_in_all(units, rate)
        first, _ = self.ends or _ends(units)
        dense = {name: score.numel() for name, score in units.items() if self.dense_first and name == first}
        rest = {name: score.shape for name, score in units.items() if name not in dense}
        whole = sum(dense.values())
        if total - whole < len(rest):
            raise ValueError(
                f"rate={rate}: would keep {total} units, the first layer alone has {whole}; lower the rate"
            )
        counts = dense | dict(zip(rest, erk_counts(list(rest.values()), total - whole), strict=True))
        return _keep_best(units, [counts[name] for name in units])


@dataclass(frozen=True)
class UniformPlus(Allocation):
    """The first layer dense, the last at most 80 % sparse, the others at one rate (Gale et al. 2019, Uniform+).

    Exactly `round(rate * n)` units of the whole network are removed. Raises ValueError for a rate that this cannot
    meet, and for no layer between the first and the last.
    """

    ends: Ends | None = field(default=None, repr=False, compare=False)  # of the network; unbound, of the units

    def bind(self, net: nn.Module, granularity: Granularity) -> Self:
        return replace(self, ends=_trained_ends(net))

    def __call__(self, units: Scores, rate: float) -> Masks:
        refuse_nan(units)
        sizes = [score.numel() for score in units.values()]
        first, last = self.ends or _ends(units)
        if not units.keys() - {first, last}:
            raise ValueError(
                f"uniform_plus takes a first, a last and other layers, there are {len(sizes)}: use uniform"
            )
        total = _kept_in_all(units, rate)
        bounds = {first: 0.0, last: 0.8}  # the most that is removed
        least = [_kept(n, bounds[name]) if name in bounds else 1 for name, n in zip(units, sizes, strict=True)]
        if sum(least) > total:
            raise ValueError(
                f"rate={rate}: with the first layer dense and the last at most 0.8, at most "
                f"{1 - sum(least) / sum(sizes):.4g} can be removed; lower the rate"
            )
        return _keep_best(units, shared_counts(sizes, sizes, least, total))


@dataclass(frozen=True)
class Zeros(Allocation):
    """Removes every unit that training has brought to 0, at any `rate` above 0.

    For learned sparsity (network slimming by proximal steps, Liu et al. 2017; group lasso, Wen et al. 2016; scaling
    factors, Huang & Wang 2018), where the weight of the penalty decides how much is removed. A layer that is all 0
    keeps its best unit.
    """

    own_rates: ClassVar[bool] = True

    def __call__(self, units: Scores, rate: float) -> Masks:
        refuse_nan(units)
        pruned_count(0, rate)  # rejects a rate outside [0, 1)
        if rate == 0:
            return {name: torch.ones_like(score, dtype=torch.bool) for name, score in units.items()}
        keep = {name: (score != 0) & (score > -torch.inf) for name, score in units.items()}
        if all(mask.all() for mask in keep.values()):
            log.warning("no unit scores 0, so nothing is removed: raise the weight of the penalty, or train longer")
        if empty := [name for name, mask in keep.items() if not mask.any()]:
            log.warning("all units of %s score 0: the best is kept", ", ".join(empty))
        return {name: keep_top(units[name], 1) if name in empty else mask for name, mask in keep.items()}


def _ends(layers: Iterable[str]) -> Ends:
    names = list(layers)
    return names[0], names[-1]


def _trained_ends(net: nn.Module) -> Ends:
    """Without what is frozen: a teacher beside the network is none of its layers."""
    return _ends(name for name, weight in layer_weights(net).items() if weight.requires_grad)


def _keep_best(units: Scores, counts: Sequence[int]) -> Masks:
    return {name: keep_top(score, k) for (name, score), k in zip(units.items(), counts, strict=True)}


def _kept_in_all(units: Scores, rate: float) -> int:
    n = sum(score.numel() for score in units.values())
    k = _kept(n, rate)
    if k < len(units):
        raise ValueError(f"rate={rate}: would keep {k} units in {len(units)} layers; lower the rate")
    return k


def _keep_in_layer(name: str, score: Tensor, rate: float) -> Tensor:
    refuse_nan({name: score})
    k = _kept(score.numel(), rate)
    if k < 1:
        log.warning("%s: rate=%g would remove all its %d units; its best is kept", name, rate, score.numel())
    return keep_top(score, max(k, 1))


def _wide(score: Tensor) -> Tensor:
    """Flat; at least float32, so that scores of several types compare."""
    return score.reshape(-1).to(torch.promote_types(score.dtype, torch.float32))


def _spare_best(score: Tensor) -> Tensor:
    flat = _wide(score)
    return flat.index_fill(0, flat.argmax(), torch.inf)


def _split(flat: Tensor, like: Scores) -> Masks:
    parts = flat.split([score.numel() for score in like.values()])
    return {name: part.view_as(score) for (name, score), part in zip(like.items(), parts, strict=True)}


def _kept(n: int, rate: float) -> int:
    return n - pruned_count(n, rate)


def _ranks(scores: Tensor) -> Tensor:
    """0 for the largest, in the shape of `scores`; of equals the first by position ranks first."""
    order = scores.reshape(-1).argsort(descending=True, stable=True)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order), device=order.device)
    return ranks.view_as(scores)
