"""The brush that draws the built-in images."""

import pytest
import torch

from prunelab.data.sources.shapes.drawing import Brush, paint_over


@pytest.fixture
def brush() -> Brush:
    return Brush(200, 32, torch.Generator().manual_seed(0))


def test_unit_circle_lies_within_the_image(brush: Brush) -> None:
    u, v, radius = brush.coordinates(6.0, 9.0, margin=1.0)
    inside = u.hypot(v) < 1
    area = inside.sum((1, 2, 3))
    torch.testing.assert_close(area.float(), torch.pi * radius.flatten() ** 2, rtol=0.08, atol=0)
    assert radius.min() >= 6
    assert radius.max() < 9


def test_coordinates_cover_all_positions_and_directions(brush: Brush) -> None:
    u, v, _ = brush.coordinates(6.0, 6.1, margin=1.0)
    centre = u.hypot(v).flatten(1).argmin(1)
    assert torch.stack([centre // 32, centre % 32]).amin(1).tolist() <= [7, 7]
    assert torch.stack([centre // 32, centre % 32]).amax(1).tolist() >= [24, 24]
    direction = torch.atan2(v[:, 0, 0, 1] - v[:, 0, 0, 0], u[:, 0, 0, 1] - u[:, 0, 0, 0])
    assert torch.histc(direction, 4, -torch.pi, torch.pi).min() > 30


def test_stripes_stay_within_their_amplitude(brush: Brush) -> None:
    painted = brush.striped(torch.full((200, 3, 1, 1), 0.5), 0.1)
    assert painted.shape == (200, 3, 32, 32)
    assert 0.4 <= painted.min() < 0.42
    assert 0.58 < painted.max() <= 0.6


def test_clutter_is_small_and_of_three_kinds(brush: Brush) -> None:
    distance = brush.clutter()
    area = (distance < 0).sum((1, 2, 3))
    assert area.max() <= 66  # a square of half width 4
    assert area.median() < 28
    assert len(area.unique()) > 20
    down, across = torch.gradient(distance[:, 0], dim=(1, 2))
    assert 0.8 < down.hypot(across)[distance[:, 0].abs() < 1].median() < 1.2  # distance in pixels per pixel


def test_paint_covers_the_inside_and_half_of_the_edge() -> None:
    image, paint = torch.zeros(1, 3, 1, 3), torch.ones(1, 3, 1, 3)
    painted = paint_over(image, paint, torch.tensor([-3.0, 0.0, 3.0]).view(1, 1, 1, 3))
    assert painted[0, 0, 0].tolist() == [1.0, 0.5, 0.0]
