"""Regrowth for dynamic sparse training: which weights return and which go instead (Mocanu 2018; Evci 2020)."""

import math
from dataclasses import dataclass

from prunelab.core.criterion import Criterion
from prunelab.core.numbers.selection import keep_top, refuse_nan
from prunelab.core.time import Progress, Time, to_step
from prunelab.core.types import Masks, Scores

FEW = 25  # exchanges, where Evci et al. have hundreds: masks have hardly moved


@dataclass(frozen=True)
class Regrow:
    """Every so often each layer exchanges its weights of lowest `drop` for as many of highest `grow`.

    A dropped weight may grow again at once and then keeps its value; the others start at 0, without momentum.
    The rate does not change.
    """

    drop: Criterion
    grow: Criterion
    fraction: float = 0.3  # of a layer's remaining weights; decays on a half cosine (Evci et al. 2020, sec. 3)
    every: Time = "100it"
    until: Time = 0.75

    def due(self, p: Progress) -> float | None:
        """The fraction to exchange at this step, or None."""
        every, end = max(1, to_step(self.every, p)), to_step(self.until, p)
        if p.step == 0 or p.step % every or p.step >= end:
            return None
        return self.fraction / 2 * (1 + math.cos(math.pi * p.step / end))

    def exchanges(self, p: Progress) -> int:
        """How many there are in a whole run."""
        return (to_step(self.until, p) - 1) // max(1, to_step(self.every, p))

    def check(self, p: Progress) -> None:
        """Raises ValueError for a fraction outside (0, 1], and for a run without a single exchange."""
        if not 0 < self.fraction <= 1:
            raise ValueError(f"regrow.fraction={self.fraction}: expected a fraction in (0, 1]")
        try:
            every, end = to_step(self.every, p), to_step(self.until, p)
        except ValueError as error:
            raise ValueError(f"regrow: {error}") from None
        if every < 1:
            raise ValueError(f"regrow.every={self.every!r} is 0 steps: expected at least 1")
        if every >= end:
            raise ValueError(
                f"regrow.every={self.every!r} is {every} steps, and regrowth ends until={self.until!r}, at step "
                f"{end}: nothing would ever grow; exchange more often or raise epochs"
            )

    def exchange(self, keep: Masks, drop: Scores, grow: Scores, fraction: float) -> Masks:
        """The masks after one exchange. Raises ValueError on NaN scores."""
        refuse_nan(drop)
        refuse_nan(grow)
        after = {}
        for name, alive in keep.items():
            alive = alive.to(drop[name].device)  # masks out of a checkpoint come from the CPU
            count = int(alive.sum())
            moved = int(fraction * count)
            survivors = keep_top(drop[name].masked_fill(~alive, -math.inf), count - moved)
            gain = grow[name].to(alive.device)  # scores in float64 come from the CPU where the device has none
            after[name] = survivors | keep_top(gain.masked_fill(survivors, -math.inf), moved)
        return after
