"""Schedules: when units are removed, and how many by then."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from prunelab.core.numbers.fraction import check_rate
from prunelab.core.time import Progress, Time, length, to_step


class Schedule(ABC):
    """The rate due at a step: a function of the step alone, so a resumed run needs no state."""

    @property
    def in_rounds(self) -> bool:
        """Whether a training of its own follows each pruning."""
        return False

    @abstractmethod
    def __call__(self, p: Progress) -> float | None:
        """The fraction of units to be removed by `p.step` steps; None before the first pruning."""

    def length(self, epoch: int) -> int | None:
        """The steps that a run must have, given those of an epoch; None for any number."""
        return None

    def is_last(self, p: Progress) -> bool:
        """Whether the rate due now is the final one."""
        return self(p) == self(replace(p, step=p.total))

    @abstractmethod
    def check(self, p: Progress) -> None:
        """Raises ValueError, with value and remedy, when the run is too short for this schedule."""


@dataclass(frozen=True)
class Rounds(Schedule):
    """Prune, train on, prune again: `n` prunings, the first at `start`; the last one meets `rate`, in [0, 1), exactly.

    Each removes the same share of what is left; with n=None it is `share`, as many times as `rate` takes. They
    are spaced equally to the end of the run or, given the length of one `training`, each is followed by that
    training from its step `rewind` on, in whole epochs. One round is one-shot pruning.
    """

    rate: float
    n: int | None = 1
    share: float = 0.2
    start: Time = 0.5
    training: Time | None = None
    rewind: Time = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", check_rate(self.rate))

    @property
    def rounds(self) -> int:
        """How many prunings there are."""
        if self.rate == 0:
            return 0
        # Rounded, because 0.8 ** k is inexact: three times 20 % must not become four.
        return self.n if self.n is not None else math.ceil(round(math.log(1 - self.rate, 1 - self.share), 9))

    @property
    def in_rounds(self) -> bool:
        return self.training is not None

    def __call__(self, p: Progress) -> float | None:
        done = self.done(p)
        if done == 0:
            return None
        if done == self.rounds:
            return self.rate
        return 1 - ((1 - self.rate) ** (done / self.n) if self.n is not None else (1 - self.share) ** done)

    def done(self, p: Progress) -> int:
        """How many prunings are due by `p.step`."""
        start = to_step(self.start, p)
        if p.step < start or self.rounds == 0:
            return 0
        if self.training is not None:
            return min(self.rounds, 1 + (p.step - start) // self._retraining(p.epoch))
        # In integers, so that rounding moves no pruning.
        return min(self.rounds, 1 + (p.step - start) * self.rounds // max(p.total - start, 1))

    def ends(self, epoch: int) -> list[int]:
        """The step at which each training ends: the one before the first pruning, and those after each."""
        first = length(self.start, epoch)
        return [first + i * self._retraining(epoch) for i in range(self.rounds + 1)] if self.rounds else []

    def _retraining(self, epoch: int) -> int:
        """Steps of one retraining."""
        assert self.training is not None
        training = length(self.training, epoch)
        try:
            rewind = to_step(self.rewind, Progress(0, training, epoch))
        except ValueError as error:
            raise ValueError(f"rewind={error}") from None
        if not (isinstance(self.rewind, str) or self.rewind == 0):
            raise ValueError(f'rewind={self.rewind}: expected 0, "500it" or "3ep"')
        if training - rewind < epoch:
            raise ValueError(
                f"rewind={self.rewind!r} leaves {training - rewind} steps of a training of {self.training!r}, "
                f"less than one epoch ({epoch}): rewind to an earlier step or raise epochs"
            )
        return (training - rewind) // epoch * epoch

    def length(self, epoch: int) -> int | None:
        if self.training is None or self.rounds == 0:
            return None
        return self.ends(epoch)[-1]

    def check(self, p: Progress) -> None:
        if self.n is not None and self.n < 1:
            raise ValueError(f"rounds n={self.n}: expected at least 1")
        if not 0 < self.share < 1:
            raise ValueError(f"share={self.share}: expected a fraction in (0, 1)")
        left = p.total - to_step(self.start, p)
        need = self.rounds * (1 if self.training is None else self._retraining(p.epoch))
        if left < need:
            raise ValueError(
                f"{self.rounds} rounds from start={self.start!r} on need {need} steps, but there are {left}: "
                "raise epochs, start earlier or ask for fewer rounds"
            )


@dataclass(frozen=True)
class Cubic(Schedule):
    """Cubic ramp to `rate`, in [0, 1), fast at first, then constant masks (Zhu & Gupta 2017)."""

    rate: float
    start: Time = 0.0
    end: Time = 0.5
    every: Time = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", check_rate(self.rate))

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
            raise ValueError(
                f"end={self.end!r} is the end of the run, {p.total} steps: nothing would be trained at the full rate; "
                "raise epochs, or end earlier"
            )
        if end - start < max(1, every):
            raise ValueError(
                f"the ramp from start={self.start!r} to end={self.end!r} has {end - start} steps, fewer than "
                f"one update every={self.every!r} ({max(1, every)}): raise epochs or lengthen the ramp"
            )
