"""When are units removed, and how many by then?"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from prunelab.core.time import Time, to_step
from prunelab.core.types import Progress


class Schedule(ABC):
    """The rate that is due at a step: a function of the step alone, so that a resumed run needs no memory."""

    @abstractmethod
    def __call__(self, p: Progress) -> float | None:
        """The fraction of units that must be gone after `p.step` steps; None before the first pruning."""

    @abstractmethod
    def check(self, p: Progress) -> None:
        """Raises ValueError, naming the value and the remedy, when the run is too short for this schedule."""


@dataclass(frozen=True)
class Rounds(Schedule):
    """`n` prunings, equally spaced from `start` to `end`, each removing the same share of what is left.

    The last one meets `rate` exactly. One round is one-shot pruning.
    """

    rate: float
    n: int = 1
    start: Time = 0.5
    end: Time = 1.0

    def __call__(self, p: Progress) -> float | None:
        start, end = to_step(self.start, p), to_step(self.end, p)
        if p.step < start:
            return None
        # Round i (from 0) falls on start + i * (end - start) / n; integers, so that no rounding moves it.
        done = min(self.n, 1 + (p.step - start) * self.n // max(end - start, 1))
        return self.rate if done == self.n else 1 - (1 - self.rate) ** (done / self.n)

    def check(self, p: Progress) -> None:
        if self.n < 1:
            raise ValueError(f"rounds n={self.n}: expected at least 1")
        start, end = to_step(self.start, p), to_step(self.end, p)
        if end - start < self.n:
            raise ValueError(
                f"{self.n} rounds from start={self.start!r} to end={self.end!r} need {self.n} steps, "
                f"but there are {max(end - start, 0)}: raise epochs, start earlier or ask for fewer rounds"
            )


@dataclass(frozen=True)
class Cubic(Schedule):
    """Zhu & Gupta 2017: fast at first, slower as fewer weights are left; then the masks stand."""

    rate: float
    start: Time = 0.0
    end: Time = 0.5
    every: Time = 0.01

    def __call__(self, p: Progress) -> float | None:
        start, end = to_step(self.start, p), to_step(self.end, p)
        if p.step < start:
            return None
        if p.step >= end:
            return self.rate
        every = max(1, to_step(self.every, p))
        t = (p.step - start) // every * every
        return self.rate * (1 - (1 - t / (end - start)) ** 3)  # eq. 1, with s_i = 0

    def check(self, p: Progress) -> None:
        start, end, every = (to_step(t, p) for t in (self.start, self.end, self.every))
        if end >= p.total:
            raise ValueError(f"end={self.end!r} is the end of the run: nothing would be trained at the full rate")
        if end - start < max(1, every):
            raise ValueError(
                f"the ramp from start={self.start!r} to end={self.end!r} has {end - start} steps, fewer than "
                f"one update every={self.every!r} ({max(1, every)}): raise epochs or lengthen the ramp"
            )
