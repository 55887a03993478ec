"""Draws the images of the built-in data set.

A shape of random position, size and rotation on a background with clutter. Background, clutter and shape have random
colours and stripes, and every pixel is noisy. The shape is brighter than the background: without that hint a small
network needs tens of thousands of images before it learns anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from prunelab.data.sources.shapes.signed_distance import SHAPES, box, disk

SIZE = 32
CHUNK = 250  # images drawn at once, few enough to stay in the processor's cache
RADIUS = (8.0, 12.0)  # pixels
CLUTTER = 3  # small objects per image
# In units of full brightness, and tuned together: `source.py` reports the accuracies they lead to.
DARKEST, BRIGHTEST = 0.25, 0.75  # how much brighter the shape is than the background
HUE = 0.2  # largest deviation of a colour channel from that
STRIPES = 0.15
NOISE = 0.08


def draw(y: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 (n, 3, 32, 32), images of the shapes with the labels `y` (n,); 1 s for 4,000."""
    return torch.cat([draw_chunk(labels, generator) for labels in y.split(CHUNK)])


def draw_chunk(y: Tensor, generator: torch.Generator) -> Tensor:
    brush = Brush(len(y), SIZE, generator)
    background = brush.uniform(0, 0.5, 3)
    colour = background + brush.uniform(DARKEST, BRIGHTEST) + brush.uniform(-HUE, HUE, 3)
    x = brush.striped(background, STRIPES)
    for _ in range(CLUTTER):
        x = paint_over(x, brush.striped(brush.uniform(0, 1, 3), STRIPES), brush.clutter())
    x = paint_over(x, brush.striped(colour.clamp(0, 1), STRIPES), shape_distance(y, brush))
    x += NOISE * torch.randn(x.shape, generator=generator)
    return x.clamp(0, 1).mul(255).round().to(torch.uint8)


def shape_distance(y: Tensor, brush: Brush) -> Tensor:
    """Signed distance in pixels, (n, 1, h, w), to each image's shape."""
    u, v, radius = brush.coordinates(*RADIUS, margin=0.8)
    distance = torch.empty_like(u)
    for label, shape in enumerate(SHAPES):
        distance[y == label] = shape(u[y == label], v[y == label])
    return distance * radius


@dataclass(frozen=True)
class Brush:
    """Random marks for n square images of `size` pixels, different in each image."""

    n: int
    size: int
    generator: torch.Generator

    def uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        """(n, channels, 1, 1)."""
        return torch.rand((self.n, channels, 1, 1), generator=self.generator) * (high - low) + low

    def grid(self) -> tuple[Tensor, Tensor]:
        """Pixel centres, x (1, 1, 1, w) and y (1, 1, h, 1)."""
        centres = torch.arange(self.size) + 0.5
        return centres.view(1, 1, 1, -1), centres.view(1, 1, -1, 1)

    def coordinates(self, smallest: float, largest: float, margin: float) -> tuple[Tensor, Tensor, Tensor]:
        """Randomly placed and rotated coordinates u, v (n, 1, h, w), and the radius (n, 1, 1, 1) of their unit circle.

        The radius is in pixels, in [smallest, largest); the origin stays `margin` radii away from the border.
        """
        radius, angle = self.uniform(smallest, largest), self.uniform(0, 2 * pi)
        x, y = (
            (axis - margin * radius - self.uniform(0, 1) * (self.size - 2 * margin * radius)) / radius
            for axis in self.grid()
        )
        sin, cos = angle.sin(), angle.cos()
        return x * cos + y * sin, y * cos - x * sin, radius

    def striped(self, colour: Tensor, amplitude: float) -> Tensor:
        """`colour` (n, 3, 1, 1) with a wave of random direction and a period of 4 to 31 pixels: (n, 3, h, w)."""
        angle, frequency = self.uniform(0, 2 * pi), self.uniform(0.2, 1.6)
        x, y = self.grid()
        wave = torch.sin(frequency * (x * angle.cos() + y * angle.sin()) + self.uniform(0, 2 * pi))
        return colour + self.uniform(0, amplitude) * self.uniform(0, 1, 3) * wave

    def clutter(self) -> Tensor:
        """Signed distance in pixels, (n, 1, h, w), to a small disk, square or stick."""
        u, v, radius = self.coordinates(1.5, 4.0, margin=0.0)
        kind = torch.randint(0, 3, (self.n, 1, 1, 1), generator=self.generator)
        rectangle = torch.where(kind == 1, box(u, v, 1.0, 1.0), box(u, v, 2.5, 0.3))
        return torch.where(kind == 0, disk(u, v), rectangle) * radius


def paint_over(x: Tensor, paint: Tensor, distance: Tensor) -> Tensor:
    """`paint` over `x`, both (n, 3, h, w), where `distance` (n, 1, h, w) is negative, with antialiased edges."""
    return torch.lerp(x, paint, (0.5 - distance).clamp(0, 1))
