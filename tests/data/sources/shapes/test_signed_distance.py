"""Signed distance functions of the shapes."""

import pytest
import torch

from prunelab.data.sources.shapes.signed_distance import (
    SHAPES,
    SignedDistance,
    bars,
    box,
    checker,
    crescent,
    cross,
    ring,
    triangle,
    wedge,
)

AXIS = torch.linspace(-1.5, 1.5, 301)
U, V = AXIS.view(1, -1), AXIS.view(-1, 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_fills_much_of_the_unit_circle_and_stays_near_it(shape: SignedDistance) -> None:
    inside = shape(U + 0 * V, V + 0 * U) < 0
    assert inside[U.hypot(V) > 1.21].sum() == 0  # the corners of a square of half width 0.85
    assert 0.9 < inside.float().mean() * 9 < 3  # of pi, the area of the circle


@pytest.mark.parametrize("shape", SHAPES)
def test_values_near_the_edge_approximate_distances(shape: SignedDistance) -> None:
    distance = shape(U + 0 * V, V + 0 * U)
    down, across = torch.gradient(distance, spacing=0.01)
    steepness = down.hypot(across)[distance.abs() < 0.05]
    assert 0.8 < steepness.median() < 2


@pytest.mark.parametrize(
    ("shape", "inside", "outside"),
    [
        (ring, (0.68, 0.0), (0.0, 0.0)),
        (triangle, (0.0, 0.4), (0.6, -0.2)),
        (cross, (0.0, 0.9), (0.6, 0.6)),
        (crescent, (-0.7, 0.0), (0.8, 0.0)),
        (bars, (0.55, 0.5), (0.0, 0.5)),
        (checker, (0.5, 0.5), (0.5, -0.5)),
        (wedge, (0.5, -0.5), (-0.5, -0.5)),
    ],
)
def test_known_points_are_inside_or_outside(
    shape: SignedDistance, inside: tuple[float, float], outside: tuple[float, float]
) -> None:
    (u, v), (p, q) = torch.tensor(inside), torch.tensor(outside)
    assert shape(u, v) < 0 < shape(p, q)


def test_box_has_the_given_half_widths() -> None:
    assert box(torch.tensor(0.7), torch.tensor(0.1), 0.8, 0.2) < 0 < box(torch.tensor(0.1), torch.tensor(0.7), 0.8, 0.2)
