"""An image folder as a data set."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from prunelab.data.sources import size
from prunelab.data.sources.image_folder import ImageFolder

REAL = os.environ.get("PRUNELAB_CIFAR10")


def source(tree: Path, val: int = 4) -> ImageFolder:
    return ImageFolder(str(tree), val=val, cache=str(tree.parent / "cache"))


def test_pixels_and_labels_match_the_files(tree: Path) -> None:
    splits = source(tree).load()
    files = sorted((tree / "train").glob("*/*.png"))
    expected = torch.stack([torch.from_numpy(np.array(Image.open(f))).permute(2, 0, 1) for f in files])
    assert torch.equal(splits.train.pool, expected)
    assert splits.train.labels.tolist() == [0] * 6 + [1] * 6
    assert splits.classes == ("cat", "dog")


def test_validation_is_held_out_of_train_not_of_test(tree: Path) -> None:
    splits = source(tree).load()
    assert (len(splits.train), len(splits.val), len(splits.test)) == (8, 4, 4)
    assert splits.val.y.tolist() == [0, 0, 1, 1]
    assert splits.train.pool.data_ptr() == splits.val.pool.data_ptr() != splits.test.pool.data_ptr()


def test_images_are_decoded_once_and_again_after_a_file_changes(tree: Path) -> None:
    first = source(tree).load()
    (tree / "train" / "cat" / "0.png").write_bytes((tree / "train" / "cat" / "1.png").read_bytes())
    assert source(tree).load().fingerprint != first.fingerprint
    assert len(list((tree.parent / "cache").iterdir())) == 2
    source(tree).load()
    assert len(list((tree.parent / "cache").iterdir())) == 2


def test_a_size_is_another_cache_entry_and_other_images(tree: Path) -> None:
    plain, large = source(tree).load(), replace(source(tree), size=48).load()
    assert large.test.x.shape == (4, 3, 48, 48)
    assert source(tree).load().fingerprint == plain.fingerprint != large.fingerprint
    with pytest.raises(ValueError, match="data.size=-3: expected a number of pixels"):
        replace(source(tree), size=-3).load()


def test_a_folder_that_does_not_fit_into_memory_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "memory", lambda: 2 * 16 * 3 * 32 * 32 - 1)
    with pytest.raises(ValueError, match="data.size=32: 16 x 3 x 32 x 32 bytes"):
        source(tree).load()


@pytest.mark.parametrize("root", [None, ""])
def test_root_is_required(root: str | None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data.root is not given: expected a folder"):
        ImageFolder(root, cache=str(tmp_path)).check()


def test_load_checks_first(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        source(tmp_path / "nowhere").load()
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(REAL is None, reason="needs PRUNELAB_CIFAR10, a folder with unpacked CIFAR-10")
@pytest.mark.parametrize(("part", "error"), [(10, 1e-2), pytest.param(1, 1e-3, marks=pytest.mark.slow)])
def test_real_cifar10_has_its_published_counts_and_moments(part: int, error: float, tmp_path: Path) -> None:
    """Of every tenth image, and of all."""
    for folder in Path(str(REAL)).glob("t*/*"):
        (copy := tmp_path / "part" / folder.parent.name / folder.name).mkdir(parents=True)
        for image in sorted(folder.iterdir())[::part]:
            (copy / image.name).symlink_to(image)
    splits = ImageFolder(str(tmp_path / "part"), val=5000 // part, cache=str(tmp_path / "cache")).load()
    assert (len(splits.train) + len(splits.val), len(splits.test)) == (50_000 // part, 10_000 // part)
    assert splits.train.y.bincount().tolist() == [4500 // part] * 10
    assert splits.val.y.bincount().tolist() == [500 // part] * 10
    assert splits.mean == pytest.approx((0.4913, 0.4821, 0.4465), abs=error)
    assert splits.std == pytest.approx((0.2452, 0.2428, 0.2606), abs=error)
