"""Finds the rate of units at which a cost is met, though masks change in steps."""

from collections.abc import Callable
from typing import NamedTuple

from prunelab.channels.steps import PRECISION
from prunelab.core.types import Masks

TRIES = 60  # rates; exact costs take some twenty


class Candidate(NamedTuple):
    """The masks of an allocation at a rate of units, and the fraction of the cost that they remove."""

    inner: float
    keep: Masks
    removed: float


def bracket(
    candidate: Callable[[float], Candidate], below: Candidate, above: Candidate, rate: float
) -> tuple[Candidate, Candidate]:
    """The nearest candidates that remove less than `rate`, and as much or more.

    By the Illinois method (Dowell & Jarratt 1971), every third time by bisection, as masks change in steps.
    """
    step = 0.5 / sum(kept.numel() for kept in below.keep.values())
    high, lack, excess, last = above.inner, rate - below.removed, above.removed - rate, 0
    for i in range(TRIES):
        if high - below.inner < step or min(rate - below.removed, above.removed - rate) < PRECISION:
            break
        share = 0.5 if i % 3 == 2 else lack / (lack + excess)
        try:
            trial = candidate(below.inner + share * (high - below.inner))
        except ValueError:  # more than the allocation allows; its scores were checked at rate 0
            high = below.inner + share * (high - below.inner)
            continue
        if trial.removed < rate:
            below, lack, excess, last = trial, rate - trial.removed, excess / 2 if last < 0 else excess, -1
        else:
            above, high, excess = trial, trial.inner, trial.removed - rate
            lack, last = lack / 2 if last > 0 else lack, 1
    return below, above
