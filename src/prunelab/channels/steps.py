"""Single steps from masks towards a rate of cost: units, or whole widths where they are rounded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from prunelab.channels.cost_model import CostModel
from prunelab.channels.rounding import Rounding
from prunelab.core.types import Masks, Scores

PRECISION = 1e-4  # of the dense cost: a rate this near is met
TOLERANCE = 1e-2  # a rate not met within this is a warning


class Step(NamedTuple):
    """Units of a group that go (-1), or come back (1)."""

    group: str
    numbers: list[int]
    change: int


@dataclass(frozen=True)
class Steps:
    """Removes and spares units by their cost; with `rounding`, from width to width."""

    cost_model: CostModel
    rounding: Rounding | None = None

    def adjust(self, keep: Masks, units: Scores, rate: float, names: Sequence[str]) -> tuple[Masks, float]:
        """Takes steps in these groups, each time the one that comes nearest to `rate`, until none comes nearer.

        Returns the masks, and the fraction of the cost that they remove. Removed units score -inf.
        """
        cost_model = self.cost_model
        keep, left = dict(keep), cost_model.left(keep)
        removed = float(cost_model.removed(left[:, None]))
        while abs(gap := rate - removed) > PRECISION:
            forth = self._steps(units, keep, names, -1 if gap > 0 else 1)
            found = _nearest(cost_model, left, [(step,) for step in forth], rate, gap)
            if not found and self.rounding and abs(gap) > TOLERANCE:  # widths are coarse: two groups at once
                back = self._steps(units, keep, names, 1 if gap > 0 else -1)
                pairs = [(step, other) for step in forth for other in back if step.group != other.group]
                found = _nearest(cost_model, left, pairs, rate, gap)
            if not found:
                break
            steps, left, removed = found
            for group, numbers, change in steps:
                keep[group] = keep[group].clone(memory_format=torch.contiguous_format)
                keep[group].view(-1)[torch.tensor(numbers, device=keep[group].device)] = change > 0
        return keep, removed

    def _steps(self, units: Scores, keep: Masks, names: Sequence[str], change: int) -> list[Step]:
        steps = ((name, self._step(name, units[name], keep[name], change < 0)) for name in names)
        return [Step(name, numbers, change) for name, numbers in steps if numbers]

    def _step(self, name: str, score: Tensor, kept: Tensor, remove: bool) -> list[int] | None:
        """The units of a group that go next, or come back."""
        if self.rounding:
            return self.rounding.step(name, score, kept, remove)
        unit = _next(score, kept, remove)
        return None if unit is None else [unit]


def _nearest(
    cost_model: CostModel, left: Tensor, tries: Sequence[tuple[Step, ...]], rate: float, gap: float
) -> tuple[tuple[Step, ...], Tensor, float] | None:
    """What comes nearest to `rate`, the units that it leaves, and what these remove; None where nothing is nearer."""
    lefts = []
    for steps in tries:
        after = left
        for step in steps:
            after = cost_model.moved(after, *step)
        lefts.append(after)
    results = cost_model.removed(torch.stack(lefts, 1)) if lefts else torch.empty(0)
    if not (abs(rate - results) < abs(gap)).any():
        return None
    best = int((rate - results).abs().argmin())
    return tries[best], lefts[best], float(results[best])


def _next(score: Tensor, kept: Tensor, remove: bool) -> int | None:
    """The lowest scored unit that is left, or the highest scored one that this pruning removes."""
    score, kept = score.flatten(), kept.flatten()
    choice = (kept if remove else ~kept & (score > -torch.inf)).nonzero().flatten()
    if len(choice) <= remove:  # a group keeps its best unit
        return None
    if remove:  # of equals the last, as allocations do
        return int(choice[len(choice) - 1 - score[choice].flip(0).argmin()])
    return int(choice[score[choice].argmax()])
