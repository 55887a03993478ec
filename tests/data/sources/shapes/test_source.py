"""The built-in data set: sizes, reproducibility, disjoint splits."""

from pathlib import Path
from typing import Any

import pytest
import torch

from prunelab.data.sources.shapes.source import Shapes, examples


def test_splits_have_the_given_sizes_and_balanced_classes(tmp_path: Path) -> None:
    splits = Shapes(train=200, val=50, test=100, cache=str(tmp_path)).load()
    assert splits.train.x.shape == (200, 3, 32, 32)
    assert splits.train.y.bincount().tolist() == [20] * 10
    assert splits.val.y.bincount().tolist() == [5] * 10
    assert splits.test.y.bincount().tolist() == [10] * 10
    assert splits.classes[:2] == ("disk", "ring")


def test_images_depend_on_the_seed_alone(tmp_path: Path) -> None:
    first, same, other = (
        Shapes(60, 20, 20, seed, cache=str(tmp_path / folder)).load() for seed, folder in ((0, "a"), (0, "b"), (1, "b"))
    )
    assert torch.equal(first.train.x, same.train.x)
    assert first.fingerprint == same.fingerprint != other.fingerprint


def test_train_and_test_share_no_image_for_any_seed() -> None:
    images = [examples(100, part, seed)[0].flatten(1) for seed in range(3) for part in (0, 1)]
    assert len(torch.cat(images).unique(dim=0)) == 600


def test_test_images_do_not_depend_on_the_other_splits(tmp_path: Path) -> None:
    small, large = (Shapes(n, 20, 20, cache=str(tmp_path)).load() for n in (60, 90))
    assert torch.equal(small.test.x, large.test.x)


def test_images_show_the_shapes_of_their_labels() -> None:
    """The mean image of disks is bright in the middle, that of rings less so."""
    x, y = examples(3000, 0, 0)
    disk, ring = (x[y == label].double().mean((0, 1)) for label in (0, 1))
    assert disk[14:18, 14:18].mean() - disk[:4, :4].mean() > 40
    assert disk[14:18, 14:18].mean() - ring[14:18, 14:18].mean() > 10


def test_every_random_number_comes_from_the_generator() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    examples(300, 0, 0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("bad", [{"train": 9}, {"test": 0}, {"val": -1}, {"seed": -1}, {"train": "abc"}, {"seed": 0.5}])
def test_invalid_sizes_are_refused(bad: dict[str, Any]) -> None:
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"data.{name}={value}: expected"):
        Shapes(**bad).check()
