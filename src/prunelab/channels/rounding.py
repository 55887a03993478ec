"""Widths in multiples of a number, as kernels are fast at: how many units of a group may be left."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from prunelab.core.granularity import Granularity
from prunelab.core.types import Masks, Scores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rounding:
    """Leaves a multiple of `to` channels of each group, on every axis where it has any.

    A group of fewer channels stays whole, and so does one that loses nothing.
    """

    to: int
    kinds: Mapping[str, Tensor]  # the kind of each unit of a group: (units,)
    per: Tensor  # (axes, kinds): channels of one unit

    @classmethod
    def of(cls, to: int, net: nn.Module, granularity: Granularity) -> Self:
        """For a granularity that is bound to `net`.

        Raises ValueError for units that are no channels, and where no group has as many channels.
        """
        if not isinstance(to, int) or to < 1:
            raise ValueError(f"round_to={to}: expected a whole number of at least 1")
        if not granularity.of_channels:
            kind = type(granularity).__name__
            raise ValueError(f"round_to={to}: channels are rounded, units are {kind}s: use prune/granularity=filter")
        layout = granularity.layout(net)
        rounding = cls(to, layout.kinds, layout.per)
        small = {name: len(kinds) for name, kinds in layout.kinds.items() if not len(rounding._counts(name))}
        if len(small) == len(layout.kinds):
            widest = max(small, key=lambda name: small[name])
            raise ValueError(f"round_to={to}: no layer has as many channels, {widest} has {small[widest]}; lower it")
        if small:
            names = ", ".join(f"{name} ({units} units)" for name, units in small.items())
            log.warning("kept whole, no smaller width is a multiple of round_to=%d: %s", to, names)
        return rounding

    def least(self) -> Masks:
        """Each group with as few units as may be left."""
        first = {name: torch.arange(len(kinds)) for name, kinds in self.kinds.items()}
        return self.nearest(
            {name: -order.float() for name, order in first.items()}, {n: o == 0 for n, o in first.items()}
        )

    def nearest(self, units: Scores, keep: Masks) -> Masks:
        """As few units more or fewer as it takes, of two equally near the more; removed ones score -inf."""

        def choose(counts: Tensor, count: int, left: int) -> int:
            more_first = counts.flip(0)
            return int(more_first[(more_first - count).abs().argmin()])

        return {name: self._resized(name, units[name], kept, choose) for name, kept in keep.items()}

    def more(self, units: Scores, keep: Masks) -> Masks:
        """As few units more as it takes; all that are left where there are not enough."""

        def choose(counts: Tensor, count: int, left: int) -> int:
            return min(counts[counts >= count].tolist(), default=left)

        return {name: self._resized(name, units[name], kept, choose) for name, kept in keep.items()}

    def _resized(self, name: str, score: Tensor, kept: Tensor, choose: Callable[[Tensor, int, int], int]) -> Tensor:
        if kept.all():
            return kept
        order = _order(score, kept)
        counts = self._counts(name, order)
        if not len(counts):
            return score > -torch.inf
        size = choose(counts, int(kept.count_nonzero()), len(order))
        return torch.zeros_like(kept).index_fill(0, order[:size].to(kept.device), True)

    def step(self, name: str, score: Tensor, kept: Tensor, remove: bool) -> list[int] | None:
        """The units between `kept` and the next smaller width, or the next larger one; None where there is none."""
        order, count = _order(score, kept), int(kept.count_nonzero())
        counts = self._counts(name, order)
        further = counts[counts < count] if remove else counts[counts > count]
        if not len(further):
            return None
        return (order[int(further[-1]) : count] if remove else order[count : int(further[0])]).tolist()

    def _counts(self, name: str, order: Tensor | None = None) -> Tensor:
        """How many of the first units in `order` may be left, ascending."""
        kinds = self.kinds[name] if order is None else self.kinds[name][order]
        widths = self.per[:, kinds].cumsum(1)  # (axes, units)
        return (widths % self.to == 0).all(0).nonzero().flatten() + 1


def _order(score: Tensor, kept: Tensor) -> Tensor:
    """Units that are left, by falling score: first those that are kept. Of equals the first comes first."""
    score, kept = score.cpu(), kept.cpu()
    order = score.argsort(descending=True, stable=True)
    order = order[: int((score > -torch.inf).count_nonzero())]
    return torch.cat([order[kept[order]], order[~kept[order]]])
