"""The soft threshold: the proximal operator of an L1 norm."""

from typing import Any

import torch
from torch import Tensor


def soft_threshold_(tensors: list[Tensor], by: list[Tensor] | float) -> None:
    """In place, moves each element towards 0 and stops it there: exactly 0 where |x| <= by.

    `by` is one number, or for each tensor one of its shape; none is negative.

    >>> x = torch.tensor([0.5, -0.5, 0.1])
    >>> soft_threshold_([x], 0.25)
    >>> x
    tensor([ 0.2500, -0.2500,  0.0000])
    """
    if not tensors:
        return
    most: Any = by  # torch has an overload for each, none for both
    least = -most if isinstance(by, float) else list(torch._foreach_neg(most))
    within = list(torch._foreach_maximum(tensors, least))
    torch._foreach_minimum_(within, most)
    torch._foreach_sub_(tensors, within)  # x - clip(x, -by, by)
