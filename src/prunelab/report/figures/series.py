"""Means over seeds with ranges and intervals, and the accuracy axis that holds them."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from math import ceil, floor
from statistics import fmean
from typing import Any

from prunelab.report.confidence import interval
from prunelab.store.result import Result

FEWEST = 3  # seeds for an interval: with two it reaches 12.7 standard errors, which hides the figure


@dataclass(frozen=True)
class Point:
    """Test accuracy in per cent over n seeds; `x` is an epoch, or the mean of a rate or a cost."""

    method: str
    rate: float
    x: float
    mean: float
    low: float  # the lowest and the highest seed
    high: float
    lower: float | None  # the confidence interval of the mean (report/confidence.py); None for fewer than FEWEST seeds
    upper: float | None
    n: int


Sample = tuple[str, float, float, float, float]  # method, rate, key of a point on its line, x, accuracy


def over_epochs(results: Iterable[Result]) -> list[Point]:
    """Without epoch 0, which is of networks that were not trained."""
    return pooled(
        (r.method, r.job.rate, epoch, epoch, accuracy) for r in results for epoch, accuracy in r.curve if epoch
    )


def over(results: Iterable[Result], x: Callable[[Result], float]) -> list[Point]:
    """A point for each method and rate."""
    return pooled((r.method, r.job.rate, r.job.rate, x(r), r.accuracy) for r in results)


def reach(points: Iterable[Point]) -> list[float]:
    """The accuracies of the lowest and the highest seeds."""
    return [end for p in points for end in (p.low, p.high)]


def row(point: Point) -> dict[str, Any]:
    """The data of a mark; `interval` is a text, which says why there is none."""
    if point.lower is not None:
        return asdict(point) | {"interval": f"{point.lower:.2f} to {point.upper:.2f}"}
    return asdict(point) | {"interval": f"none: needs {FEWEST} seeds, n = {point.n}"}


def domain(accuracies: Collection[float]) -> tuple[float, float]:
    """The axis, in per cent: holds all of them with a margin and round ends, from 0 where that costs little."""
    low, high = min(accuracies), max(accuracies)
    span = max(high - low, 2.0)  # points; noise between equal runs must not fill the axis
    step = 1 if span < 15 else 5 if span < 50 else 10
    bottom = step * floor((low - 0.04 * span) / step)
    top = min(100, step * ceil((high + 0.04 * span) / step))
    return (0 if low < 0.25 * span else max(0, bottom)), top


def pooled(samples: Iterable[Sample]) -> list[Point]:
    """A point for each method, rate and key: means over the samples that share them, which are seeds."""
    cells: dict[tuple[str, float, float], list[tuple[float, float]]] = {}
    for method, rate, key, x, accuracy in samples:
        cells.setdefault((method, rate, key), []).append((x, 100 * accuracy))
    return [_point(method, rate, seeds) for (method, rate, _), seeds in sorted(cells.items())]


def _point(method: str, rate: float, seeds: list[tuple[float, float]]) -> Point:
    values = [accuracy for _, accuracy in seeds]
    mean = fmean(values)
    lower, upper = (interval(values) if len(values) >= FEWEST else None) or (None, None)
    x = fmean(x for x, _ in seeds)
    return Point(method, rate, x, mean, min(values), max(values), lower, upper, len(values))
