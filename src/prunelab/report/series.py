"""What is drawn? Means and ranges over seeds, and the part of the accuracy axis that they fill."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor
from statistics import fmean

from prunelab.report.record import Result


@dataclass(frozen=True)
class Point:
    """Test accuracy in per cent over seeds at `x`, which is an epoch or a rate."""

    method: str
    rate: float
    x: float
    mean: float
    low: float
    high: float


def over_epochs(results: Iterable[Result]) -> list[Point]:
    """Epoch 0 is of nets that were not trained."""
    return _points((r.method, r.rate, epoch, accuracy) for r in results for epoch, accuracy in r.curve if epoch)


def over_rates(results: Iterable[Result]) -> list[Point]:
    return _points((r.method, r.rate, r.rate, r.accuracy) for r in results)


def domain(points: Iterable[Point]) -> tuple[float, float]:
    """The accuracies to show: all of them, a little air, round ends; from 0 where that costs little."""
    ranges = [(p.low, p.high) for p in points]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    span = max(high - low, 2.0)  # points; noise between equal runs must not fill the page
    step = 1 if span < 15 else 5 if span < 50 else 10
    bottom = step * floor((low - 0.04 * span) / step)
    top = min(100, step * ceil((high + 0.04 * span) / step))
    return (0 if low < 0.25 * span else max(0, bottom)), top


def _points(samples: Iterable[tuple[str, float, float, float]]) -> list[Point]:
    seeds: dict[tuple[str, float, float], list[float]] = {}
    for method, rate, x, accuracy in samples:
        seeds.setdefault((method, rate, x), []).append(100 * accuracy)
    return [Point(*cell, fmean(values), min(values), max(values)) for cell, values in sorted(seeds.items())]
