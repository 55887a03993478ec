"""Exact selection of the k largest scores."""

import torch
from torch import Tensor

from prunelab.core.types import Scores


def keep_top(scores: Tensor, k: int) -> Tensor:
    """Bool mask in the shape of `scores` with exactly `k` True: the largest; of equals, the first by position.

    Linear time on a CPU: the threshold is selected without sorting. Scores must not be NaN.
    """
    flat = scores.reshape(-1)
    if k >= flat.numel():
        return torch.ones_like(scores, dtype=torch.bool)
    if k <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    nth = flat.numel() - k
    # On a GPU kthvalue is not deterministic, and a sort takes milliseconds.
    threshold = flat.sort().values[nth] if flat.is_cuda else flat.kthvalue(nth + 1).values
    above, equal = flat > threshold, flat == threshold
    return (above | (equal & (equal.cumsum(0) <= k - above.sum()))).view_as(scores)


def pruned_count(n: int, rate: float) -> int:
    """How many of `n` units `rate` removes. Raises ValueError unless `rate` is a fraction in [0, 1)."""
    if not 0 <= rate < 1:
        raise ValueError(f"rate={rate}: expected a fraction in [0, 1)")
    return round(rate * n)


def refuse_nan(scores: Scores) -> None:
    """Raises ValueError, naming the layer, where a score is not a number."""
    for name, score in scores.items():
        if score.isnan().any():
            raise ValueError(f"{name}: its scores contain NaN; has training diverged? lower the learning rate")
