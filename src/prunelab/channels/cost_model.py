"""The cost of a network with some of its units removed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from prunelab.core.granularity import Granularity
from prunelab.core.types import Masks


@dataclass(frozen=True)
class CostModel:
    """The cost of a network by how many units of each kind are left, without surgery.

    A parameter keeps, along each axis, the channels of remaining units and those of no unit; the product counts.
    Two units of one kind have the same number of channels in every place.
    """

    kinds: Mapping[str, Tensor]  # the kind of each unit of a group: (units,), or () if all are of one kind
    whole: Tensor  # (kinds,): how many there are
    per: Tensor  # (places + 1, kinds): channels of one unit there; 0 at the last place
    fixed: Tensor  # (places + 1,): channels of no unit; 1 at the last place
    axes: Tensor  # (parameters, 2 or more): the places on their axes, padded with the last place
    price: Tensor  # (parameters,): per channel by channel
    rest: float  # the cost of what has no units

    @classmethod
    def of(cls, net: nn.Module, granularity: Granularity, costs: Mapping[str, float]) -> Self:
        """`costs` are of whole parameters, by name, 0 where missing; those of other names are costs of no unit."""
        kinds, whole, rows, per, fixed = granularity.layout(net)
        per, fixed = torch.cat([per, per.new_zeros(1, per.shape[1])]), torch.cat([fixed, fixed.new_ones(1)])
        places: dict[str, list[int]] = {}
        for i, name in enumerate(rows):
            places.setdefault(name, []).append(i)
        most = max(map(len, places.values()))
        axes = torch.tensor([indices + [len(rows)] * (most - len(indices)) for indices in places.values()])
        price = torch.tensor([costs.get(name, 0) for name in places], dtype=torch.float64)
        price /= (fixed + per @ whole)[axes].prod(1)
        return cls(kinds, whole, per, fixed, axes, price, sum(v for name, v in costs.items() if name not in places))

    @classmethod
    def of_units(cls, net: nn.Module, granularity: Granularity) -> Self:
        """Each unit costs 1."""
        layout = granularity.layout(net)
        ones = torch.ones_like(layout.whole)[None]
        price = torch.ones(1, dtype=torch.float64)
        end = torch.tensor([0.0, 1.0], dtype=torch.float64)
        return cls(layout.kinds, layout.whole, torch.cat([ones, 0 * ones]), end, torch.tensor([[0, 1]]), price, 0.0)

    def left(self, keep: Masks) -> Tensor:
        """(kinds,): units of each kind that are left."""
        left = self.whole.clone()
        for name, kept in keep.items():
            kinds = self.kinds[name]
            if kinds.dim():
                left -= torch.bincount(kinds[~kept.flatten().cpu()], minlength=len(left))
            else:
                left[kinds] -= kept.numel() - int(kept.count_nonzero())  # far faster than a sum of bools
        return left

    def moved(self, left: Tensor, group: str, units: Sequence[int], change: int) -> Tensor:
        """`left` with `change` more of the kind of each of these units."""
        kinds, left = self.kinds[group], left.clone()
        for unit in units:
            left[kinds[unit] if kinds.dim() else kinds] += change
        return left

    def cost(self, left: Tensor) -> Tensor:
        """(kinds, n) -> (n,)"""
        channels = self.fixed[:, None] + self.per @ left
        return self.rest + self.price @ channels[self.axes].prod(1)

    def removed(self, left: Tensor) -> Tensor:
        """(kinds, n) -> (n,), as fractions of the cost of the unpruned network."""
        return 1 - self.cost(left) / self.cost(self.whole[:, None])

    @property
    def reachable(self) -> float:
        """The largest fraction that can be removed: each group keeps one unit, the cheapest."""
        last = torch.zeros_like(self.whole)
        for kinds in self.kinds.values():
            choice = kinds.reshape(-1).unique()
            ways = torch.zeros(len(last), len(choice), dtype=last.dtype).scatter_(0, choice[None], 1)
            last[choice[self.cost(ways).argmin()]] = 1
        return float(self.removed(last[:, None]))
