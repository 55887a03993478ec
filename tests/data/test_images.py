"""Labelled images as rows of a shared pool."""

import torch

from prunelab.data.images import Images

POOL = torch.arange(5 * 12, dtype=torch.uint8).view(5, 3, 2, 2)
LABELS = torch.tensor([0, 1, 2, 3, 4])


def test_rows_select_images_and_labels() -> None:
    images = Images(POOL, LABELS, torch.tensor([4, 1]))
    assert len(images) == 2
    assert torch.equal(images.x, POOL[[4, 1]])
    assert images.y.tolist() == [4, 1]


def test_positions_index_the_rows() -> None:
    x, y = Images(POOL, LABELS, torch.tensor([4, 1, 3])).take(torch.tensor([2, 0]))
    assert torch.equal(x, POOL[[3, 4]])
    assert y.tolist() == [3, 4]


def test_images_on_the_device_already_are_not_copied() -> None:
    images = Images(POOL, LABELS, torch.tensor([4, 1]))
    assert images.to(torch.device("cpu")) is images


def test_only_selected_rows_move_to_another_device() -> None:
    moved = Images(POOL, LABELS, torch.tensor([4, 1])).to(torch.device("meta"))
    assert moved.pool.shape == (2, 3, 2, 2)
    assert len(moved) == 2
