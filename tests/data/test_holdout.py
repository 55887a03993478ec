"""Stratified hold-out of validation images."""

from typing import Any

import pytest
import torch

from prunelab.data.dataset import hold_out

Y = torch.arange(10).repeat(20)  # ten classes with 20 images each
NAMES = tuple("abcdefghij")


def split(val: Any, seed: int = 0, y: torch.Tensor = Y) -> tuple[torch.Tensor, torch.Tensor]:
    return hold_out(y, NAMES, val, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("val", [1, 10, 57, 100, 189])
def test_split_is_exact_disjoint_complete_and_stratified(val: int) -> None:
    train, validation = split(val)
    assert len(validation) == val
    assert torch.cat([train, validation]).sort().values.tolist() == list(range(200))
    counts = torch.bincount(Y[validation], minlength=10)
    assert counts.max() - counts.min() <= 1


def test_split_depends_on_the_seed_alone() -> None:
    assert torch.equal(split(50, seed=3)[1], split(50, seed=3)[1])
    assert not torch.equal(split(50, seed=3)[1], split(50, seed=4)[1])


@pytest.mark.parametrize("val", [-1, 0, 200, 5000, "abc", 2.5])
def test_invalid_sizes_are_refused(val: Any) -> None:
    with pytest.raises(ValueError, match=rf"data.val={val}: .*\[1, 200\)"):
        split(val)


def test_a_class_without_training_images_is_named() -> None:
    y = torch.cat([Y, torch.zeros(50, dtype=torch.long)])[2:]
    keep = (y != 2) | (torch.cumsum(y == 2, 0) <= 3)
    with pytest.raises(ValueError, match="takes 5 of the 3 train images of class 'c'"):
        split(50, y=y[keep])
