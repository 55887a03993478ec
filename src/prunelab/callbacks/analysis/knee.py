"""The knee of an accuracy curve, and the rates to evaluate around it."""

from collections.abc import Sequence
from itertools import pairwise

Window = tuple[float, float]  # rates, both included


def grid(rates: int | Sequence[float]) -> list[float]:
    """Ascending rates with 0: `rates` equal steps below 1, or those given. Raises ValueError outside [0, 1)."""
    if isinstance(rates, int):
        if rates < 2:
            raise ValueError(f"rates={rates}: expected at least 2 of them, or a list of fractions")
        return [i / rates for i in range(rates)]
    if not isinstance(rates, Sequence) or isinstance(rates, str):
        raise ValueError(f"rates={rates}: expected how many, or a list of fractions, as [{rates}]")
    for rate in rates:
        if not 0 <= rate < 1:  # also refuses nan
            raise ValueError(f"rates: {rate} is no fraction in [0, 1)")
    if not any(rates):
        raise ValueError(f"rates={list(rates)}: expected at least one above 0")
    return sorted({0.0, *map(float, rates)})


def knee(rates: Sequence[float], accuracies: Sequence[float], tolerance: float) -> float | None:
    """The largest rate up to which the accuracy is at most `tolerance` below that at 0.

    None where it never falls by more. `rates` ascend from 0. Defined this way because the point farthest from the
    chord (Kneedle, Satopaa et al. 2011) moves with the range of a scan.
    """
    for before, accuracy in zip(rates, accuracies[1:], strict=False):
        if accuracies[0] - accuracy > tolerance + 1e-9:  # for rounding: 0.80 - 0.79 is more than 0.01
            return before
    return None


def window(rates: Sequence[float], knee: float, reach: int) -> Window:
    """From `reach` rates below the knee to as many above, within `rates`."""
    index = rates.index(knee)
    return rates[max(0, index - reach)], rates[min(len(rates) - 1, index + reach)]


def finer(rates: Sequence[float], window: Window, parts: int) -> list[float]:
    """The rates that divide each step inside the window into `parts` equal ones, without its ends."""
    inside = [rate for rate in rates if window[0] <= rate <= window[1]]
    return [
        round(low + (high - low) * i / parts, 12)  # not 0.8300000000000001
        for low, high in pairwise(inside)
        for i in range(1, parts)
    ]
