"""What masks remove of MACs or BOPs, counted on a copy that is cut by them, where a table by weights is wrong."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import nn

from prunelab.channels.cost_model import CostModel
from prunelab.channels.equivalence.trial import copied
from prunelab.channels.surgery import shrink
from prunelab.channels.units import PrunableStructure
from prunelab.core.types import Example, Masks
from prunelab.measure.macs import costs_by_weight

TRIES = 6  # copies that are counted for a rate
NEAR = 1e-3  # of the dense cost: a rate this near is met


@dataclass(frozen=True)
class Meter:
    """For networks in which channels are not only what layers make and read, but also where they are applied.

    Such are layers along another axis than that of channels, as of tokens, and reshapes of channels into the batch.
    """

    table: CostModel
    net: nn.Module
    units: PrunableStructure
    example: Example
    of: str  # "macs" or "bops"
    counted: dict[tuple[float, ...], float] = field(default_factory=dict, compare=False)  # by the units that are left

    @classmethod
    def needed(
        cls, table: CostModel, net: nn.Module, units: PrunableStructure, example: Example, of: str
    ) -> Self | None:
        """None where the table says the same of half of all units, and where the network cannot be cut."""
        meter = cls(table, net, units, example, of)
        half = {name: 2 * torch.arange(len(numbers)) < len(numbers) for name, numbers in units.numbers.items()}
        try:
            counted = meter.removed(half)
        except Exception:  # of any network; the proof and the rehearsal of surgery say more
            return None
        return None if math.isclose(counted, meter._by_table(half), abs_tol=1e-6) else meter

    def removed(self, keep: Masks) -> float:
        """The fraction of the dense cost; by the table for networks that cannot be copied."""
        left = tuple(self.table.left(keep).tolist())
        if left not in self.counted:
            small = copied(self.net)
            if small is None:
                return self._by_table(keep)
            shrink(small, self.units.plan(keep))
            dense = float(self.table.cost(self.table.whole[:, None]))
            self.counted[left] = 1 - sum(costs_by_weight(small, self.example, self.of).values()) / dense
        return self.counted[left]

    def _by_table(self, keep: Masks) -> float:
        return float(self.table.removed(self.table.left(keep)[:, None]))

    @property
    def reachable(self) -> float:
        """The largest fraction that can be removed: each group keeps one unit."""
        return self.removed({name: torch.arange(len(numbers)) == 0 for name, numbers in self.units.numbers.items()})

    def nearest(self, rate: float, masks: Callable[[float], Masks]) -> Masks:
        """Of a few tries the masks that remove most nearly `rate`; `masks` are by the table's rate."""
        tries: list[tuple[float, Masks]] = []
        low, high = (0.0, 0.0), (self.table.reachable, self.reachable)  # by the table, and as counted
        while len(tries) < TRIES and not (tries and tries[-1][0] <= NEAR):
            aim = low[0] + (rate - low[1]) * (high[0] - low[0]) / (high[1] - low[1])
            keep = masks(aim)
            removed = self.removed(keep)
            tries.append((abs(rate - removed), keep))
            low, high = ((aim, removed), high) if removed < rate else (low, (aim, removed))
        return min(tries, key=lambda tried: tried[0])[1]
