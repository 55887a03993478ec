import pytest
import torch

from prunelab.data.dataset import hold_out

Y = torch.arange(10).repeat(20)  # 20 of each of ten classes
NAMES = tuple("abcdefghij")


def held(val: int, seed: int = 0, y: torch.Tensor = Y) -> tuple[torch.Tensor, torch.Tensor]:
    return hold_out(y, NAMES, val, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("val", [1, 10, 57, 100, 189])
def test_split_is_exact_disjoint_complete_and_even(val: int) -> None:
    train, validation = held(val)
    assert len(validation) == val
    assert torch.cat([train, validation]).sort().values.tolist() == list(range(200))
    counts = torch.bincount(Y[validation], minlength=10)
    assert counts.max() - counts.min() <= 1


def test_seed_alone_decides_the_split() -> None:
    assert torch.equal(held(50, seed=3)[1], held(50, seed=3)[1])
    assert not torch.equal(held(50, seed=3)[1], held(50, seed=4)[1])


@pytest.mark.parametrize("val", [-1, 0, 200, 5000])
def test_none_or_more_than_there_is_cannot_be_held_out(val: int) -> None:
    with pytest.raises(ValueError, match=rf"data.val={val}: .*\[1, 200\)"):
        held(val)


def test_a_class_left_without_training_images_is_named() -> None:
    y = torch.cat([Y, torch.zeros(50, dtype=torch.long)])[2:]
    keep = (y != 2) | (torch.cumsum(y == 2, 0) <= 3)
    with pytest.raises(ValueError, match="takes 5 of the 3 train images of class 'c'"):
        held(50, y=y[keep])
