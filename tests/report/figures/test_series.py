"""Points are means over seeds, with their range and interval, on an axis that holds them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from charting import only

from prunelab.report.confidence import interval
from prunelab.report.figures import series

Add = Callable[..., Path]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(15.0, 90.0, (0, 100)), (70.0, 80.0, (69, 81)), (75.0, 75.0, (74, 76)), (99.0, 99.9, (98, 100))],
)
def test_axis_holds_all_accuracies_with_a_small_margin(low: float, high: float, expected: tuple[int, int]) -> None:
    assert series.domain([low, high]) == expected


def test_points_are_mean_and_range_over_seeds(add: Add) -> None:
    for seed, accuracy in enumerate((0.5, 0.6, 0.8)):
        job = add("usp", 0.2, seed, accuracy=accuracy)
    [point] = series.over(only(job.parent).results, lambda r: 2 * r.job.rate)
    assert (point.x, point.mean, point.low, point.high) == pytest.approx((0.4, 190 / 3, 50, 80))
    assert (point.lower, point.upper) == pytest.approx(interval([50, 60, 80]))


def test_two_seeds_have_no_interval(add: Add) -> None:
    for seed, accuracy in enumerate((0.5, 0.6)):
        job = add("usp", 0.2, seed, accuracy=accuracy)
    [point] = series.over(only(job.parent).results, lambda r: r.job.rate)
    assert (point.mean, point.lower, point.upper, point.n) == (pytest.approx(55), None, None, 2)


def test_a_single_seed_has_no_interval(add: Add) -> None:
    [point] = series.over(only(add("usp", 0.2, accuracy=0.5).parent).results, lambda r: r.job.rate)
    assert (point.mean, point.lower, point.upper, point.n) == (50, None, None, 1)


@pytest.mark.parametrize(("seeds", "text"), [(1, "n = 1"), (2, "n = 2"), (3, " to ")])
def test_a_tooltip_says_the_interval_or_why_there_is_none(seeds: int, text: str, add: Add) -> None:
    for seed in range(seeds):
        job = add("usp", 0.2, seed)
    [point] = series.over(only(job.parent).results, lambda r: r.job.rate)
    assert text in series.row(point)["interval"]
