"""Which k of n scores are kept, exactly, and how much of a tensor is gone?"""

import torch
from torch import Tensor

from prunelab.core.types import Masks


def keep_top(scores: Tensor, k: int) -> Tensor:
    """Bool mask of the shape of `scores` with exactly `k` True: the largest; of equals, the first by position.

    Linear in the number of scores: a threshold is selected, not sorted for. Raises ValueError on NaN.
    """
    flat = scores.reshape(-1)
    if flat.isnan().any():
        raise ValueError("scores contain NaN: the weights or the criterion have diverged")
    if k >= flat.numel():
        return torch.ones_like(scores, dtype=torch.bool)
    if k <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    threshold = flat.kthvalue(flat.numel() - k + 1).values
    above, equal = flat > threshold, flat == threshold
    return (above | (equal & (equal.cumsum(0) <= k - above.sum()))).view_as(scores)


def pruned_count(n: int, rate: float) -> int:
    """How many of `n` units go at `rate`. Raises ValueError unless `rate` is a fraction in [0, 1)."""
    if not 0 <= rate < 1:
        raise ValueError(f"rate={rate}: expected a fraction in [0, 1)")
    return round(rate * n)


def sparsity(masks: Masks) -> float:
    """The fraction of False over all masks together; 0 where there are none."""
    total = sum(m.numel() for m in masks.values())
    return 1 - sum(int(m.sum()) for m in masks.values()) / total if total else 0.0
