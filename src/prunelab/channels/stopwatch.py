"""Latency that surgery saves, measured."""

import copy
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from prunelab.channels.surgery import shrink
from prunelab.channels.units import PrunableStructure
from prunelab.core.types import Example, Masks
from prunelab.measure.latency import resized, timings_within

BATCH = 128  # as reports compare latency: of a few inputs a GPU's time is that of the launches alone
BATCH_ON_CPU = 8  # 128 images take one core seconds
SECONDS, LEAST, ROUNDS = 1.0, 3, 30  # of a measurement: about how long, and how many rounds


@dataclass(frozen=True)
class Stopwatch:
    """Measures the latency on `example` that surgery saves, on a copy of the network."""

    net: nn.Module
    units: PrunableStructure
    example: Example
    least: Masks  # that may be left

    def saved(self, keep: Masks) -> float:
        """The fraction saved, by the fastest run of each network, as disturbances only add time."""
        if all(kept.all() for kept in keep.values()):
            return 0.0
        small = copy.deepcopy(self.net)
        shrink(small, self.units.plan(keep))
        # Neither is compiled, as the copy is not: compiling each would take minutes.
        on_cpu = next(self.net.parameters()).device.type == "cpu"
        example = resized(self.example, BATCH_ON_CPU if on_cpu else BATCH)
        dense, pruned = map(min, timings_within([self.net, small], example, SECONDS, LEAST, ROUNDS))
        return 1 - pruned / dense

    @cached_property
    def reachable(self) -> float:
        """The most that can be saved."""
        return self.saved(self.least)
