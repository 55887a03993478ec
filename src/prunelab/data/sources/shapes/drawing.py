"""What is a picture of the built-in task?

A figure of random place, size and turn lies on a ground among scraps of other things. Ground, scraps and
figure are coloured and striped at random, and every pixel is noisy. The figure is brighter than the ground:
without that hint a small network sees tens of thousands of images before it learns anything.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunelab.data.brush import Brush, lay
from prunelab.data.sources.shapes.figures import FIGURES

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
