"""Signed distance functions of the ten shapes of the built-in data set.

Each takes coordinates u and v, tensors of equal shape: negative inside, positive outside, and near the edge
approximately the distance to it, so edges can be antialiased at any size. Except for corners, each shape fits into
the unit circle. See https://iquilezles.org/articles/distfunctions2d/
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SignedDistance = Callable[[Tensor, Tensor], Tensor]


def disk(u: Tensor, v: Tensor) -> Tensor:
    return u.hypot(v) - 0.85


def ring(u: Tensor, v: Tensor) -> Tensor:
    return (u.hypot(v) - 0.68).abs() - 0.22


def square(u: Tensor, v: Tensor) -> Tensor:
    return box(u, v, 0.76, 0.76)


def triangle(u: Tensor, v: Tensor) -> Tensor:
    slanted = 0.866 * u.abs() - 0.5 * v  # sin and cos of 60 degrees; the third side is horizontal
    return torch.maximum(v, slanted) - 0.5


def cross(u: Tensor, v: Tensor) -> Tensor:
    return torch.minimum(box(u, v, 0.95, 0.3), box(u, v, 0.3, 0.95))


def star(u: Tensor, v: Tensor) -> Tensor:
    return u.hypot(v) - 0.68 - 0.3 * torch.cos(5 * torch.atan2(v, u))


def crescent(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.hypot(v) - 0.9, 0.68 - (u - 0.42).hypot(v))


def bars(u: Tensor, v: Tensor) -> Tensor:
    return box(u.abs() - 0.55, v, 0.26, 0.85)


def checker(u: Tensor, v: Tensor) -> Tensor:
    """Two opposite quadrants of a square."""
    quadrants = -(u * v).sign() * torch.minimum(u.abs(), v.abs())
    return torch.maximum(box(u, v, 0.85, 0.85), quadrants)


def wedge(u: Tensor, v: Tensor) -> Tensor:
    """Three quarters of a disk."""
    return torch.maximum(u.hypot(v) - 0.95, -torch.maximum(u, v))


def box(u: Tensor, v: Tensor, a: float, b: float) -> Tensor:
    """A rectangle with half widths a and b."""
    return torch.maximum(u.abs() - a, v.abs() - b)


SHAPES: tuple[SignedDistance, ...] = (disk, ring, square, triangle, cross, star, crescent, bars, checker, wedge)
