"""Confidence intervals of means over seeds, by Student's t (Student 1908)."""

from collections.abc import Sequence
from functools import cache
from math import atan, cos, fsum, pi, sin, sqrt

LEVEL = 0.95


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The confidence interval of the mean at LEVEL, for normally distributed values; None for a single one."""
    if len(values) < 2:
        return None
    n = len(values)
    mean = fsum(values) / n
    variance = fsum((value - mean) ** 2 for value in values) / (n - 1)  # statistics.stdev takes 30 times as long
    half = quantile(n - 1) * sqrt(variance / n)
    return mean - half, mean + half


@cache
def quantile(freedom: int) -> float:
    """The t with P(|T| < t) = LEVEL, for `freedom` >= 1 degrees of freedom."""
    low, high = 0.0, 1e3
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, freedom) < LEVEL else (low, middle)
    return high


def within(t: float, freedom: int) -> float:
    """P(|T| < t), for whole degrees of freedom a finite sum (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = atan(t / sqrt(freedom))
    odd = freedom % 2
    term = total = cos(angle) if odd else 1.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cos(angle) ** 2 * (k - 1) / k
        total += term
    if not odd:
        return sin(angle) * total
    return 2 / pi * (angle + (sin(angle) * total if freedom > 1 else 0.0))
