"""Rates measured in parameters, MACs, BOPs or latency instead of units."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from prunelab.channels.bracket import Candidate, bracket
from prunelab.channels.cost_model import CostModel
from prunelab.channels.meter import Meter
from prunelab.channels.rounding import Rounding
from prunelab.channels.steps import TOLERANCE, Steps
from prunelab.channels.stopwatch import NOISE, Stopwatch
from prunelab.channels.units import prunable_structure
from prunelab.core.allocation import Allocation
from prunelab.core.granularity import Granularity
from prunelab.core.numbers.selection import pruned_count
from prunelab.core.types import Example, Masks, Scores
from prunelab.measure.macs import costs_by_weight

log = logging.getLogger(__name__)
UNITS = ("units", "filters")
KINDS = (*UNITS, "params", "macs", "bops", "latency")
NEAR = 1e-3  # a rate not met within this takes units of groups that the allocation leaves whole


@dataclass(frozen=True)
class Budget:
    """What a rate is a fraction of: the network's units, parameters, MACs, BOPs or latency.

    Searches the rate of units at which an allocation removes that fraction, then removes or spares single units,
    in each group the lowest or highest scored, where that comes nearer. A group keeps its best unit, and removed
    units stay removed.

    Parameters are all of the network's. MACs and BOPs are those of one input that reports count; of single weights,
    those of weights that are left. Latency is measured when a rate is first asked for (stopwatch.py): in the network's
    own precision and not compiled, for a batch of BATCH examples (BATCH_ON_CPU) on its device. Scores are divided by
    the time that a unit of their group saves, so that one threshold for all layers takes units where they save most for
    what they score (Shen et al. 2021, HALP); within a group their order stays.

    With `round_to` each group keeps a multiple of that many channels: the nearest width, then as many steps from width
    to width as it takes, so that units too are met within TOLERANCE instead of exactly.
    """

    of: str = "units"
    round_to: int = 1
    cost_model: CostModel | None = field(default=None, compare=False)
    meter: Meter | None = field(default=None, compare=False)  # where the cost model is wrong
    stopwatch: Stopwatch | None = field(default=None, compare=False)
    rounding: Rounding | None = field(default=None, compare=False)

    def bind(self, net: nn.Module, granularity: Granularity, example: Example | None) -> Self:
        """This budget for one network and a granularity bound to it; `example` is a batch of inputs, or a tuple.

        Raises ValueError for what cannot be counted or timed.
        """
        if self.of not in KINDS:
            raise ValueError(f"budget={self.of}: expected one of {', '.join(KINDS)}")
        if self.of == "filters" and not granularity.of_channels:
            raise ValueError(f"budget=filters: the units are {type(granularity).__name__}s; use budget=units")
        rounding = Rounding.of(self.round_to, net, granularity) if self.round_to != 1 else None
        if self.of in UNITS:
            counted = CostModel.of_units(net, granularity) if rounding else None
            return replace(self, cost_model=counted, rounding=rounding)
        if granularity.in_groups:
            raise ValueError(
                f"budget={self.of}: N of every m weights are removed, whatever they cost: use budget=units"
            )
        structure = prunable_structure(granularity)
        if self.of == "latency":
            if structure is None:
                raise ValueError(
                    "budget=latency: only removed filters, neurons or blocks save time: use Filter() "
                    "(prune/granularity=filter on the command line)"
                )
            if example is None:
                raise ValueError(
                    "budget=latency: it is measured on an example: set example_input_array on the LightningModule"
                )
            return replace(self, stopwatch=Stopwatch(net, structure, example), rounding=rounding)
        if self.of == "params":
            costs = {name: p.numel() for name, p in net.named_parameters()}
            return replace(self, cost_model=CostModel.of(net, granularity, costs), rounding=rounding)
        if example is None:
            raise ValueError(
                f"budget={self.of}: MACs are counted on an example: set example_input_array on the LightningModule, or "
                "use budget=params"
            )
        table = CostModel.of(net, granularity, costs_by_weight(net, example, self.of))
        meter = Meter.needed(table, net, structure, example, self.of) if structure else None
        return replace(self, cost_model=table, meter=meter, rounding=rounding)

    @property
    def reachable(self) -> float:
        """The largest fraction that can be removed; of latency, once that is measured."""
        if self.stopwatch:
            return self.stopwatch.reachable
        if self.cost_model and self.rounding:
            return self.attained(self.rounding.least())
        if self.meter:
            return self.meter.reachable
        return self.cost_model.reachable if self.cost_model else 1.0

    def unmeasured(self, rate: float) -> bool:
        return self.stopwatch is not None and not self.stopwatch.has_met(rate)

    @property
    def _costs(self) -> CostModel | None:
        """Of what is counted, of latency the table; None for units that are not rounded."""
        return self.stopwatch.costs if self.stopwatch else self.cost_model

    def state_dict(self) -> dict[str, Any]:
        """What was measured."""
        return self.stopwatch.state_dict() if self.stopwatch else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.stopwatch and state:
            self.stopwatch.load_state_dict(state)

    def attained(self, keep: Masks) -> float:
        """The fraction removed; of latency, by what was measured for networks near this one."""
        if self.meter:
            return self.meter.removed(keep)
        removed = self._removed(keep)
        return self.stopwatch.saves(removed) if self.stopwatch else removed

    def _meeting(self, rate: float, masks: Callable[[float], Masks]) -> Masks:
        """Of `masks`, by the rate that the cost model foretells, those that meet `rate` as counted or timed."""
        if self.meter:
            return self.meter.nearest(rate, masks)
        return masks(self.stopwatch.by_table(rate) if self.stopwatch else rate)

    def _removed(self, keep: Masks) -> float:
        if costs := self._costs:
            return float(costs.removed(costs.left(keep)[:, None]))
        return 1 - sum(int(kept.count_nonzero()) for kept in keep.values()) / sum(k.numel() for k in keep.values())

    def __call__(self, allocation: Allocation, units: Scores, rate: float, last: bool = True) -> Masks:
        """Bool masks in the shapes of `units`; removed units score -inf.

        Before the `last` pruning groups are rounded up, so that none is too small for the last one. Raises ValueError
        for a rate beyond reach, and for an allocation with rates of its own.
        """
        if self.of not in UNITS:
            self._check(allocation, rate)
        units = self._weighed(units)
        if self.stopwatch and rate and self.unmeasured(rate) and (last or not self.stopwatch.points):
            self._calibrate(self.stopwatch, allocation, units, rate)
        if self._costs:
            self._check_reachable(rate, allocation)
        keep = self._meeting(rate, lambda table: self._masks(allocation, units, table, last))
        if self._costs and not allocation.own_rates and (last or not self.rounding):
            self._warn_of_miss(rate, self.attained(keep))
        thin = [name for name, kept in keep.items() if kept.count_nonzero() == 1 < kept.numel()]
        if thin and self.of not in UNITS and not self.rounding:
            log.warning("%g of %s leaves a single unit of %s", rate, self.of, ", ".join(thin))
        return keep

    def dry_run(self, allocation: Allocation, units: Scores, rate: float, timed: bool) -> Masks:
        """Masks like those of a call, whose ValueErrors it raises.

        Latency is measured, if it is not yet, only if `timed`; else half the rate of units is removed.
        """
        if self.of == "latency" and not timed:
            self._check(allocation, rate)
            with _quiet(allocation):
                return self._sparing(allocation, units, rate / 2)
        return self._dry_round(allocation, units, rate) if self.rounding else self(allocation, units, rate)

    def _calibrate(self, stopwatch: Stopwatch, allocation: Allocation, units: Scores, rate: float) -> None:
        least = self.rounding.least() if self.rounding else {name: _best(score) for name, score in units.items()}
        with _quiet(allocation):
            stopwatch.calibrate(rate, lambda by_table: self._masks(allocation, units, by_table, last=True), least)

    def _weighed(self, units: Scores) -> Scores:
        return self.stopwatch.weighed(units) if self.stopwatch else units

    def _check(self, allocation: Allocation, rate: float) -> None:
        if allocation.own_rates:
            raise ValueError(
                f"budget={self.of}: {type(allocation).__name__} decides itself how much is removed; use "
                "prune/allocation=uniform or global, or budget=units"
            )
        pruned_count(0, rate)  # rejects a rate outside [0, 1)

    def _check_reachable(self, rate: float, allocation: Allocation) -> None:
        if not allocation.own_rates and rate > self.reachable:
            raise ValueError(
                f"rate={rate} of {self.of}: at most {math.floor(1e4 * self.reachable) / 1e4} can be removed, where "
                f"each group keeps {f'{self.round_to} channels' if self.rounding else 'one unit'}; lower the rate, or "
                "let more be pruned (prune/granularity=channels, no skip)"
            )

    def _dry_round(self, allocation: Allocation, units: Scores, rate: float) -> Masks:
        """The last pruning, after one before it at this rate. Raises ValueError where it comes not near enough."""
        before = self(allocation, units, rate, last=False)
        left = {name: score.masked_fill(~before[name], -torch.inf) for name, score in units.items()}
        keep = self(allocation, left, rate)
        tolerance = NOISE if self.stopwatch else TOLERANCE
        if not allocation.own_rates and abs(rate - (nearest := self.attained(keep))) > tolerance:
            raise ValueError(
                f"rate={rate} of {self.of}: with widths in multiples of round_to={self.round_to} it comes to "
                f"{nearest:.4f}; ask for that, or lower round_to"
            )
        return keep

    def rounded(self, allocation: Allocation, units: Scores, rate: float, keep: Masks) -> dict[str, tuple[int, int]]:
        """What rounding changes, by group: the units that would be left without it, and those in `keep`."""
        if not self.rounding:
            return {}
        with _quiet(allocation):
            weighed = self._weighed(units)
            before = self._meeting(rate, lambda table: self._freely(allocation, weighed, table))
        counts = {name: (int(before[name].count_nonzero()), int(kept.count_nonzero())) for name, kept in keep.items()}
        return {name: (free, left) for name, (free, left) in counts.items() if free != left}

    def _masks(self, allocation: Allocation, units: Scores, rate: float, last: bool) -> Masks:
        """The masks of `rate`, of latency by the table."""
        keep = self._freely(allocation, units, rate)
        return self._round(allocation, units, rate, keep, last) if self.rounding else keep

    def _freely(self, allocation: Allocation, units: Scores, rate: float) -> Masks:
        """The masks of `rate` before widths are rounded."""
        if self.of in UNITS:
            return allocation(units, rate)
        with _quiet(allocation):
            return self._meet(allocation, units, rate)

    def _sparing(self, allocation: Allocation, units: Scores, inner: float) -> Masks:
        """The allocation's masks at a rate of units, but each group keeps its best unit."""
        masks = allocation(units, inner).items()
        return {name: kept & (units[name] > -torch.inf) | _best(units[name]) for name, kept in masks}

    def _meet(self, allocation: Allocation, units: Scores, rate: float) -> Masks:
        def candidate(inner: float) -> Candidate:
            keep = self._sparing(allocation, units, inner)
            return Candidate(inner, keep, self._removed(keep))

        assert self._costs
        best = {name: _best(score) for name, score in units.items()}
        below, above = bracket(candidate, candidate(0.0), Candidate(1.0, best, self._removed(best)), rate)
        nearest = min(below, above, key=lambda trial: abs(rate - trial.removed))
        touched, steps = _touched(above.keep), Steps(self._costs)
        keep, removed = steps.adjust(nearest.keep, units, rate, touched)
        if abs(rate - removed) > NEAR:
            keep, _ = steps.adjust(keep, units, rate, list(units))
        return keep

    def _round(self, allocation: Allocation, units: Scores, rate: float, keep: Masks, last: bool) -> Masks:
        """Before the last pruning the next larger widths, then the nearest, which go to the rate by steps."""
        assert self.rounding
        assert self._costs
        keep = {name: kept & (units[name] > -torch.inf) | _best(units[name]) for name, kept in keep.items()}
        larger, nearest = self.rounding.more(units, keep), self.rounding.nearest(units, keep)
        if not last or allocation.own_rates:
            return nearest if last else larger
        within = {name: score.masked_fill(~larger[name], -torch.inf) for name, score in units.items()}
        steps = Steps(self._costs, self.rounding)
        keep, removed = steps.adjust(nearest, within, rate, _touched(keep))
        if abs(rate - removed) > TOLERANCE:
            keep, _ = steps.adjust(keep, units, rate, list(units))
        return keep

    def _warn_of_miss(self, rate: float, removed: float) -> None:
        if abs(rate - removed) > TOLERANCE:
            what = "widths" if self.rounding else "these units"
            log.warning("removed %.4f of %s instead of %g: %s come no nearer", removed, self.of, rate, what)


def _touched(keep: Masks) -> list[str]:
    return [name for name, kept in keep.items() if not kept.all()]


def _best(score: Tensor) -> Tensor:
    best = torch.zeros_like(score, dtype=torch.bool).flatten()
    best[score.flatten().argmax()] = True
    return best.view_as(score)


@contextmanager
def _quiet(allocation: Allocation) -> Iterator[None]:
    """Silences warnings about rates that are only tried."""
    loggers = [logging.getLogger(module) for module in {kind.__module__ for kind in type(allocation).__mro__}]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:  # an allocation may use another one
        logger.disabled = True
    try:
        yield
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.disabled = was
