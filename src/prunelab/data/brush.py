"""How are random marks laid on many pictures at once?"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from prunelab.data.sources.shapes.figures import box, disk


@dataclass(frozen=True)
class Brush:
    """For n square pictures of `size` pixels; every mark is drawn by the generator, one for each picture."""

    n: int
    size: int
    generator: torch.Generator

    def uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        """(n, channels, 1, 1)."""
        return torch.rand((self.n, channels, 1, 1), generator=self.generator) * (high - low) + low

    def grid(self) -> tuple[Tensor, Tensor]:
        """Pixel centres, across (1, 1, 1, w) and down (1, 1, h, 1)."""
        centres = torch.arange(self.size) + 0.5
        return centres.view(1, 1, 1, -1), centres.view(1, 1, -1, 1)

    def place(self, smallest: float, largest: float, margin: float) -> tuple[Tensor, Tensor, Tensor]:
        """A turned plane u, v (n, 1, h, w) whose unit circle has a radius (n, 1, 1, 1) of so many pixels.

        Its centre stays `margin` radii away from the border.
        """
        radius, angle = self.uniform(smallest, largest), self.uniform(0, 2 * pi)
        across, down = (
            (axis - margin * radius - self.uniform(0, 1) * (self.size - 2 * margin * radius)) / radius
            for axis in self.grid()
        )
        sin, cos = angle.sin(), angle.cos()
        return across * cos + down * sin, down * cos - across * sin, radius

    def striped(self, colour: Tensor, amplitude: float) -> Tensor:
        """`colour` (n, 3, 1, 1) with a wave of any direction and of 4 to 31 pixels: (n, 3, h, w)."""
        angle, frequency = self.uniform(0, 2 * pi), self.uniform(0.2, 1.6)
        across, down = self.grid()
        wave = torch.sin(frequency * (across * angle.cos() + down * angle.sin()) + self.uniform(0, 2 * pi))
        return colour + self.uniform(0, amplitude) * self.uniform(0, 1, 3) * wave

    def scrap(self) -> Tensor:
        """Distance in pixels, (n, 1, h, w), to a small disk, square or stick."""
        u, v, radius = self.place(1.5, 4.0, margin=0.0)
        kind = torch.randint(0, 3, (self.n, 1, 1, 1), generator=self.generator)
        flat = torch.where(kind == 1, box(u, v, 1.0, 1.0), box(u, v, 2.5, 0.3))
        return torch.where(kind == 0, disk(u, v), flat) * radius


def lay(x: Tensor, paint: Tensor, distance: Tensor) -> Tensor:
    """`paint` over `x`, both (n, 3, h, w), where `distance` (n, 1, h, w) is negative, with soft edges."""
    return torch.lerp(x, paint, (0.5 - distance).clamp(0, 1))
