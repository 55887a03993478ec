"""How many units each layer keeps, where one number for all decides."""

import math
from collections.abc import Sequence

import torch


def erk_counts(shapes: Sequence[torch.Size], total: int) -> list[int]:
    """Units that each layer keeps, `total` in sum: min(n, round(epsilon * sum of dimensions)), at least 1.

    One epsilon for all layers, found by bisection, so no layer's count rises as `total` falls.
    """
    sums, sizes = [sum(shape) for shape in shapes], [math.prod(shape) for shape in shapes]
    return shared_counts(sizes, sums, [1] * len(sizes), total)


def shared_counts(sizes: Sequence[int], shares: Sequence[int], least: Sequence[int], total: int) -> list[int]:
    """`total` in sum: min(size, max(least, round(epsilon * share))), with one epsilon for all."""

    def counts_at(epsilon: float) -> list[int]:
        layers = zip(sizes, shares, least, strict=True)
        return [min(n, max(at_least, math.floor(epsilon * share + 0.5))) for n, share, at_least in layers]

    low, high = 0.0, float(max(sizes))
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if sum(counts_at(middle)) <= total else (low, middle)
    counts, more = counts_at(low), counts_at(high)
    for i in range(len(counts)):  # of layers whose counts change at the same epsilon the first take the rest
        counts[i] += min(more[i] - counts[i], total - sum(counts))
    return counts
