"""How are training images varied, a whole batch at a time?

The random part (`draw`) is apart from the work (`apply`): an epoch's decisions are drawn at once, on the CPU,
so that any batch can be made without those before it. A resumed epoch then sees the same pictures as an
uninterrupted one, and the ranks of a distributed epoch agree.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


class Augment(ABC):
    @abstractmethod
    def draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Decisions (n, k) for n images of `size` (h, w), a row each, on the generator's device."""

    @abstractmethod
    def apply(self, x: Tensor, decisions: Tensor) -> Tensor:
        """New uint8 images from `x` (n, 3, h, w) and `decisions` (n, k), all on one device."""


@dataclass(frozen=True)
class PadCropFlip(Augment):
    """Shift by up to `pad` pixels (black moves in), mirror every other image, blacken a square `cutout` wide.

    Pad and crop: He et al., 2016. Cutout: DeVries & Taylor, 2017; its square may reach over the border.
    """

    pad: int = 4
    flip: bool = True
    cutout: int = 0

    def __post_init__(self) -> None:
        if self.pad < 0 or self.cutout < 0:
            raise ValueError(f"pad={self.pad}, cutout={self.cutout}: expected pixels, 0 or more")

    def draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """int64 (n, 5): the crop's first row and column, mirrored or not, the square's centre."""
        tops = (2 * self.pad + 1, 2 * self.pad + 1, 2 if self.flip else 1, *size)
        return torch.stack([torch.randint(top, (n,), generator=generator) for top in tops], dim=1)

    def apply(self, x: Tensor, decisions: Tensor) -> Tensor:
        top, left, mirrored, cy, cx = decisions.unsqueeze(2).unbind(1)  # each (n, 1)
        row, column = (torch.arange(length, device=x.device) for length in x.shape[2:])
        if self.pad or self.flip:
            across = torch.where(mirrored.bool(), x.shape[3] - 1 - column, column) + left
            x = window(pad(x, (self.pad,) * 4), row + top, across)
        if self.cutout:
            hole = near(row, cy, self.cutout)[:, :, None] & near(column, cx, self.cutout)[:, None, :]
            x = x.masked_fill(hole[:, None], 0)
        return x


def window(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels of `x` (n, c, H, W) at `rows` (n, h) and `columns` (n, w), by one gather: (n, c, h, w)."""
    (n, c, _, width), (h, w) = x.shape, (rows.shape[1], columns.shape[1])
    flat = rows[:, :, None] * width + columns[:, None, :]  # (n, h, w)
    return x.flatten(2).gather(2, flat.view(n, 1, h * w).expand(n, c, h * w)).view(n, c, h, w)


def near(positions: Tensor, centre: Tensor, width: int) -> Tensor:
    """bool (n, len(positions)): which lie in the `width` pixels around `centre` (n, 1)."""
    offset = positions - centre + width // 2
    return (offset >= 0) & (offset < width)
