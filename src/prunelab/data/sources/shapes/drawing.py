"""What is a picture of the built-in task?

A figure of random place, size and turn lies on a ground among scraps of other things. Ground, scraps and
figure are coloured and striped at random, and every pixel is noisy. The figure is brighter than the ground:
without that hint a small network sees tens of thousands of images before it learns anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from prunelab.data.sources.shapes.figures import FIGURES, box, disk

SIZE = 32
CHUNK = 250  # images drawn together, few enough to stay in the processor's cache
RADIUS = (8.0, 12.0)  # pixels
SCRAPS = 3
# Of a white of 1, and tuned together: `shapes.py` says how well networks do with these.
DARKEST, BRIGHTEST = 0.25, 0.75  # how much brighter the figure is than the ground
HUE = 0.2  # how far its channels stray from that
STRIPES = 0.15
NOISE = 0.08


def draw(y: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 (n, 3, 32, 32) of the figures that `y` (n,) numbers; 1 s for 4,000."""
    return torch.cat([draw_chunk(part, generator) for part in y.split(CHUNK)])


def draw_chunk(y: Tensor, generator: torch.Generator) -> Tensor:
    brush = Brush(len(y), SIZE, generator)
    ground = brush.uniform(0, 0.5, 3)
    figure = ground + brush.uniform(DARKEST, BRIGHTEST) + brush.uniform(-HUE, HUE, 3)
    x = brush.striped(ground, STRIPES)
    for _ in range(SCRAPS):
        x = lay(x, brush.striped(brush.uniform(0, 1, 3), STRIPES), brush.scrap())
    x = lay(x, brush.striped(figure.clamp(0, 1), STRIPES), outline(y, brush))
    x += NOISE * torch.randn(x.shape, generator=generator)
    return x.clamp(0, 1).mul(255).round().to(torch.uint8)


def outline(y: Tensor, brush: Brush) -> Tensor:
    """Distance in pixels, (n, 1, h, w), to each picture's figure."""
    u, v, radius = brush.place(*RADIUS, margin=0.8)
    distance = torch.empty_like(u)
    for label, figure in enumerate(FIGURES):
        distance[y == label] = figure(u[y == label], v[y == label])
    return distance * radius


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
