"""Data augmentation of whole batches.

The random part (`draw`) is separate from the work (`apply`): an epoch's parameters are drawn all at once, on the
CPU, so any batch can be made without the ones before it. A resumed epoch then sees the same images as an
uninterrupted one, and the ranks of a distributed epoch agree.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad


class Augment(ABC):
    @abstractmethod
    def draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Random parameters (n, k) for n images of `size` (h, w), one row each, on the generator's device."""

    @abstractmethod
    def apply(self, x: Tensor, parameters: Tensor) -> Tensor:
        """New uint8 images from `x` (n, 3, h, w) and `parameters` (n, k), all on the same device."""

    def at(self, size: int) -> Augment:
        """The same for images of `size` pixels, where it is given in pixels of images of 32."""
        return self


@dataclass(frozen=True)
class PadCropFlip(Augment):
    """Shift by up to `pad` pixels (filled with black), flip half of the images, blacken a `cutout` x `cutout` square.

    Pad and crop: He et al., 2016. Cutout: DeVries & Taylor, 2017; its square may extend past the border.
    """

    pad: int = 4
    flip: bool = True
    cutout: int = 0

    def __post_init__(self) -> None:
        if self.pad < 0 or self.cutout < 0:
            raise ValueError(f"pad={self.pad}, cutout={self.cutout}: expected a number of pixels, 0 or more")
        if not isinstance(self.flip, bool):
            raise ValueError(f"flip={self.flip}: expected true or false")

    def at(self, size: int) -> PadCropFlip:
        return replace(self, pad=round(self.pad * size / 32), cutout=round(self.cutout * size / 32))

    def draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """int64 (n, 5): the crop's first row and column, whether to flip, the square's centre."""
        ranges = (2 * self.pad + 1, 2 * self.pad + 1, 2 if self.flip else 1, *size)
        return torch.stack([torch.randint(high, (n,), generator=generator) for high in ranges], dim=1)

    def apply(self, x: Tensor, parameters: Tensor) -> Tensor:
        top, left, flipped, cy, cx = parameters.unsqueeze(2).unbind(1)  # each (n, 1)
        row, column = (torch.arange(length, device=x.device) for length in x.shape[2:])
        if self.pad or self.flip:
            columns = torch.where(flipped.bool(), x.shape[3] - 1 - column, column) + left
            x = crop(pad(x, (self.pad,) * 4), row + top, columns)
        if self.cutout:
            square = within(row, cy, self.cutout)[:, :, None] & within(column, cx, self.cutout)[:, None, :]
            x = x.masked_fill(square[:, None], 0)
        return x


def crop(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels of `x` (n, c, H, W) at `rows` (n, h) and `columns` (n, w), in one gather: (n, c, h, w)."""
    (n, c, _, width), (h, w) = x.shape, (rows.shape[1], columns.shape[1])
    index = rows[:, :, None] * width + columns[:, None, :]  # (n, h, w)
    return x.flatten(2).gather(2, index.view(n, 1, h * w).expand(n, c, h * w)).view(n, c, h, w)


def within(positions: Tensor, centre: Tensor, width: int) -> Tensor:
    """bool (n, len(positions)): which positions lie in the `width` pixels around `centre` (n, 1)."""
    offset = positions - centre + width // 2
    return (offset >= 0) & (offset < width)
