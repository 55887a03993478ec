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


def test_each_class_is_held_out_in_proportion() -> None:
    y = torch.cat([torch.zeros(900, dtype=torch.long), torch.ones(60, dtype=torch.long)])
    y = y[torch.randperm(960, generator=torch.Generator().manual_seed(0))]
    for val, expected in ((96, [90, 6]), (100, [94, 6])):  # of 100 they have 93.75 and 6.25
        rows = hold_out(y, NAMES[:2], val, torch.Generator())
        train, validation = (torch.bincount(y[part]) for part in rows)
        assert validation.tolist() == expected
        assert (train + validation).tolist() == [900, 60]


@pytest.mark.parametrize(
    ("sizes", "val", "expected"),
    [
        ([1] * 4 + [400], 40, [0] * 4 + [40]),  # of 0.1 and 39.6
        ([1] * 8 + [40] * 2, 9, [0] * 8 + [5, 4]),  # eight times of 0.1, twice of 4.1
        ([1] * 8 + [40] * 2, 40, [0] * 8 + [20, 20]),  # of 0.45 and 18.2
        ([1] * 8 + [40] * 2, 78, [0] * 8 + [39, 39]),
        ([1, 9], 5, [0, 5]),  # of 0.5 and 4.5
        ([1, 3], 2, [0, 2]),
    ],
)
def test_no_class_gives_its_last_image_while_another_can_give_more(sizes: list[int], val: int, expected: list[int]):
    y = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    for seed in range(20):
        rows = hold_out(y, NAMES[: len(sizes)], val, torch.Generator().manual_seed(seed))
        assert sorted(torch.bincount(y[rows[1]], minlength=len(sizes)).tolist()) == sorted(expected)


def test_equal_classes_are_held_out_as_ever() -> None:
    """The bits of 0.1.0: ten classes of 20, of which drawn ones give one more."""
    assert torch.bincount(Y[split(57)[1]]).tolist() == [6, 6, 5, 6, 6, 5, 6, 5, 6, 6]
    assert split(57)[1].tolist()[:12] == [23, 25, 27, 28, 30, 31, 34, 39, 40, 42, 43, 45]


def test_a_class_without_training_images_is_named() -> None:
    with pytest.raises(ValueError, match="takes 1 of the 1 train images of class '[ab]'"):
        hold_out(torch.arange(2), NAMES[:2], 1, torch.Generator())
