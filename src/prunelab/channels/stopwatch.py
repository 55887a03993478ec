"""Latency by a table of the layers' times, and the time of whole networks that were cut by it."""

import copy
import logging
import math
from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.channels.cost_model import CostModel
from prunelab.channels.surgery import shrink
from prunelab.channels.units import PrunableStructure
from prunelab.core.types import Example, Masks, Scores
from prunelab.measure.latency import resized, timings_within
from prunelab.measure.layer_seconds import layer_seconds

log = logging.getLogger(__name__)
BATCH = 128  # as reports compare latency: of a few inputs a GPU's time is that of the launches alone
BATCH_ON_CPU = 8  # 128 images take one core seconds
SECONDS, LEAST, MOST = 5.0, 3, 40  # of a measurement: about how long, and how many turns
TRIES = 6  # networks that are cut and timed for a rate, besides the smallest
FREE = 1e-6  # of the dense time: no unit saves less
NEAR, NOISE = 0.01, 0.05  # of the dense time: a rate this near is met; one further off is a warning
Point = tuple[float, float]  # the fraction saved by the table, and as measured


@dataclass
class Stopwatch:
    """Prices parameters by the seconds of their layers, as if these were in proportion to channels in and out.

    They are not: kernels take steps of 8 or 16 channels, and a call has a price of its own. So whole networks that were
    cut by the table are timed beside the uncut one, and between these points lies what any other saves.
    """

    net: nn.Module
    units: PrunableStructure
    example: Example
    seconds: dict[str, float] = field(default_factory=dict)  # of an unpruned pass, by the layer's parameter
    points: list[Point] = field(default_factory=list)  # ascending
    rates: list[float] = field(default_factory=list)  # at which networks were timed

    @cached_property
    def costs(self) -> CostModel:
        """Of the table, which is measured at the first call."""
        if not self.seconds:
            self.seconds = self._timed([self.net])[0]
        return CostModel.of(self.net, self.units, self.seconds)

    def weighed(self, units: Scores) -> Scores:
        """Each score divided by the time that a unit of its group saves; negative ones times it, which rank alike."""
        costs, weighed = self.costs, dict[str, Tensor]()
        for name, score in units.items():
            half = (torch.arange(score.numel()) % 2 == 0).view(score.shape)
            saved = float(costs.removed(costs.left({name: half})[:, None])) / max(1, score.numel() // 2)
            weighed[name] = torch.where(score < 0, score * max(saved, FREE), score / max(saved, FREE))
        return weighed

    def has_met(self, rate: float) -> bool:
        """Whether networks were timed for this rate."""
        return any(math.isclose(rate, met) for met in self.rates)

    def calibrate(self, rate: float, masks: Callable[[float], Masks], least: Masks) -> None:
        """Cuts and times copies until one saves `rate`; `masks` are by the table's rate, `least` all that may stay."""
        costs = self.costs

        def add(keep: Masks) -> float:
            point = float(costs.removed(costs.left(keep)[:, None])), self._saved(keep)
            log.info("budget=latency: saves %.3f by the table, %.3f as measured", *point)
            insort(self.points, point)
            return point[1]

        if not self.points:
            self.points = [(0.0, 0.0)]
            add(least)
        for _ in range(TRIES):
            if rate > self.reachable or abs(rate - add(masks(self.by_table(rate)))) < NEAR:
                break
        self.rates.append(rate)
        nearest = min((saved for _, saved in self.points), key=lambda saved: abs(rate - saved))
        if rate <= self.reachable and abs(rate - nearest) > NOISE:
            log.warning("budget=latency: of the networks that were timed the nearest saves %.3f, not %g", nearest, rate)

    @property
    def reachable(self) -> float:
        """The largest fraction of the time that can be saved, as measured."""
        return max((saved for _, saved in self.points), default=0.0)

    def by_table(self, saved: float) -> float:
        """The table's rate at which that fraction of the time is saved, at most the largest."""
        if saved <= 0:
            return 0.0
        for (start, low), (end, high) in pairwise(self._rising()):
            if low <= saved <= high and low < high:
                return start + (end - start) * (saved - low) / (high - low)
        return self.points[-1][0]

    def saves(self, by_table: float) -> float:
        """The fraction of the time that is saved where the table says `by_table`."""
        for (start, low), (end, high) in pairwise(self._rising()):
            if start <= by_table <= end and start < end:
                return low + (high - low) * (by_table - start) / (end - start)
        return self.reachable

    def _rising(self) -> list[Point]:
        return list(accumulate(self.points, lambda last, point: (point[0], max(last[1], point[1]))))

    def _saved(self, keep: Masks) -> float:
        small = copy.deepcopy(self.net)
        shrink(small, self.units.plan(keep))
        nets = [self.net, small]
        if self._on_cpu:
            dense, pruned = (sum(seconds.values()) for seconds in self._timed(nets))
        else:  # which works on a layer while the next is prepared
            dense, pruned = map(min, timings_within(nets, self._batch, SECONDS, LEAST, MOST))
        return 1 - pruned / dense

    def _timed(self, nets: list[nn.Module]) -> list[dict[str, float]]:
        return layer_seconds(nets, self._batch, SECONDS, LEAST, MOST)

    @property
    def _on_cpu(self) -> bool:
        return next(self.net.parameters()).device.type == "cpu"

    @property
    def _batch(self) -> Example:
        return resized(self.example, BATCH_ON_CPU if self._on_cpu else BATCH)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "points": self.points, "rates": self.rates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seconds, self.rates = dict(state["seconds"]), list(state["rates"])
        self.points = [(by_table, saved) for by_table, saved in state["points"]]
        self.__dict__.pop("costs", None)
