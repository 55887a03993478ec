"""The cost of a network with some of its units removed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from prunelab.core.granularity import Granularity
from prunelab.core.types import Masks


@dataclass(frozen=True)
class CostModel:
    """What a net costs, given how many units of each kind are left: to know it, none need be removed.

    Of a parameter there are left, along each axis, the channels of units that are left and those of no unit; their
    product counts. Units of one kind are alike: any two of them have as many channels in every place.
    """

    kinds: Mapping[str, Tensor]  # the kind of each unit of a group: (units,), or () where all are of one
    whole: Tensor  # (kinds,): how many there are
    per: Tensor  # (places + 1, kinds): channels that one unit has there; at the last place none
    fixed: Tensor  # (places + 1,): channels of no unit; at the last place one
    axes: Tensor  # (parameters, 2 or more): the places on their axes, filled up with the last place
    price: Tensor  # (parameters,): of one channel by one channel
    rest: float  # what parameters without units cost

    @classmethod
    def of(cls, net: nn.Module, granularity: Granularity, prices: Mapping[str, int]) -> Self:
        """`prices` are those of one element, by parameter; what has none costs nothing."""
        kinds, whole, rows, per, fixed = granularity.layout(net)
        per, fixed = torch.cat([per, per.new_zeros(1, per.shape[1])]), torch.cat([fixed, fixed.new_ones(1)])
        places: dict[str, list[int]] = {}
        for i, name in enumerate(rows):
            places.setdefault(name, []).append(i)
        most = max(len(at) for at in places.values())
        axes = torch.tensor([at + [len(rows)] * (most - len(at)) for at in places.values()])
        full = {name: float(p.numel() * prices.get(name, 0)) for name, p in net.named_parameters()}
        price = torch.tensor([full.pop(name) for name in places], dtype=torch.float64)
        price /= (fixed + per @ whole)[axes].prod(1)
        return cls(kinds, whole, per, fixed, axes, price, sum(full.values()))

    def left(self, keep: Masks) -> Tensor:
        """(kinds,): how many units of each kind are left."""
        left = self.whole.clone()
        for name, kept in keep.items():
            kinds = self.kinds[name]
            if kinds.dim():
                left -= torch.bincount(kinds[~kept.flatten().cpu()], minlength=len(left))
            else:
                left[kinds] -= kept.numel() - int(kept.count_nonzero())  # of bools far faster than their sum
        return left

    def moved(self, left: Tensor, group: str, unit: int, change: int) -> Tensor:
        """`left` with so many more of the kind of that unit."""
        kinds, left = self.kinds[group], left.clone()
        left[kinds[unit] if kinds.dim() else kinds] += change
        return left

    def cost(self, left: Tensor) -> Tensor:
        """(kinds, n) -> (n,)"""
        channels = self.fixed[:, None] + self.per @ left
        return self.rest + self.price @ channels[self.axes].prod(1)

    def removed(self, left: Tensor) -> Tensor:
        """(kinds, n) -> (n,), as fractions of the cost of the whole net."""
        return 1 - self.cost(left) / self.cost(self.whole[:, None])

    @property
    def reachable(self) -> float:
        """What goes at most: each group keeps a single unit, the cheapest."""
        last = torch.zeros_like(self.whole)
        for kinds in self.kinds.values():
            choice = kinds.reshape(-1).unique()
            ways = torch.zeros(len(last), len(choice), dtype=last.dtype).scatter_(0, choice[None], 1)
            last[choice[self.cost(ways).argmin()]] = 1
        return float(self.removed(last[:, None]))
