"""Labelled images in memory, and the splits of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RGB = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images: a whole array, or some rows of one, without a copy.

    `pool` is uint8 (m, 3, h, w) and `labels` int64 (m,); `rows` is int64 (n,), or None for all m in order.
    Training and validation images are rows of one pool, a memory-mapped file, so splitting copies nothing.
    """

    pool: Tensor
    labels: Tensor
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pool if self.rows is None else self.rows)

    @property
    def x(self) -> Tensor:
        """uint8 (n, 3, h, w); a copy if `rows` is given."""
        return self.pool if self.rows is None else self.pool.index_select(0, self.rows)

    @property
    def y(self) -> Tensor:
        """int64 (n,)."""
        return self.labels if self.rows is None else self.labels.index_select(0, self.rows)

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The uint8 images (b, 3, h, w) and labels (b,) at `positions` (b,), which are in [0, n)."""
        rows = positions if self.rows is None else self.rows.index_select(0, positions)
        return self.pool.index_select(0, rows), self.labels.index_select(0, rows)

    def to(self, device: torch.device) -> Images:
        """A copy of these n images on `device`; the object itself if the pool is on it already."""
        if self.pool.device == device:
            return self
        return Images(self.x.to(device), self.y.to(device))


@dataclass(frozen=True, eq=False)
class Splits:
    """The three splits of a data set. Validation images are held out of train; test images select nothing.

    `mean` and `std` are per channel, of pixels in [0, 1], over train and validation together.
    `fingerprint` is 16 hex digits of the SHA-256 of all images and labels, the same for any size of validation.
    """

    train: Images
    val: Images
    test: Images
    classes: tuple[str, ...]
    mean: RGB
    std: RGB
    fingerprint: str
