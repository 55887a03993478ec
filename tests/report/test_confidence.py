"""Quantiles of Student's t match published tables, and intervals have their nominal coverage."""

import random

import pytest

from prunelab.report.confidence import interval, quantile, within

# Two-sided 95 %, from published tables.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 29: 2.045, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize("freedom", TABLE)
def test_quantiles_are_those_of_the_tables(freedom: int) -> None:
    assert quantile(freedom) == pytest.approx(TABLE[freedom], abs=6e-4)


def test_many_degrees_of_freedom_are_normal() -> None:
    assert quantile(20_001) == pytest.approx(1.96, abs=1e-3)
    assert within(1.0, 20_000) == pytest.approx(0.6827, abs=1e-4)


def test_the_interval_of_three_seeds_by_hand() -> None:
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-4)
    assert interval([1.0]) is None


def test_95_percent_of_intervals_hold_the_mean() -> None:
    rng = random.Random(0)
    samples = [interval([rng.gauss(5, 2) for _ in range(3)]) for _ in range(4000)]
    coverage = sum(low <= 5 <= high for low, high in filter(None, samples)) / 4000
    assert coverage == pytest.approx(0.95, abs=0.015)
