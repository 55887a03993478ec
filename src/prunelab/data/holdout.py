"""Which training images are held out for validation?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def hold_out(y: Tensor, classes: Sequence[str], val: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ascending rows (n - val,) to train on and (val,) to validate on, equally many of each class.

    Where `val` is no multiple of the number of classes, some classes, drawn at random, give one more.
    `y` is int64 (n,). Raises ValueError if `val` is not in [1, n) or would leave a class nothing to train on.
    """
    if not 1 <= val < len(y):
        raise ValueError(f"data.val={val}: expected a number of images in [1, {len(y)}), the images in train")
    held = torch.zeros(len(y), dtype=torch.bool)
    for label, count in enumerate(shares(val, len(classes), generator)):
        own = torch.nonzero(y == label).flatten()
        if count >= len(own):
            raise ValueError(
                f"data.val={val}: takes {count} of the {len(own)} train images of class "
                f"{classes[label]!r} and leaves none to train on; lower data.val or add images"
            )
        held[own[torch.randperm(len(own), generator=generator)[:count]]] = True
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


def shares(total: int, parts: int, generator: torch.Generator) -> list[int]:
    """`total` in `parts` integers that differ by one at most."""
    extra = torch.randperm(parts, generator=generator) < total % parts
    return (total // parts + extra.long()).tolist()
