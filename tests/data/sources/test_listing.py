"""Listing of an image folder, its digest and its errors."""

import os
from pathlib import Path

import pytest

from prunelab.data.sources.listing import scan


def test_classes_and_files_are_sorted(tree: Path) -> None:
    listing = scan(tree)
    assert listing.classes == ("cat", "dog")
    assert [(Path(p).parent.name, Path(p).name, y) for p, y in listing.test] == [
        ("cat", "0.png", 0),
        ("cat", "1.png", 0),
        ("dog", "0.png", 1),
        ("dog", "1.png", 1),
    ]


def test_hidden_and_other_files_are_ignored(tree: Path) -> None:
    before = scan(tree)
    (tree / "train" / ".cache").mkdir()
    for name in (".hidden.png", "Thumbs.db", "labels.txt"):
        (tree / "train" / "cat" / name).touch()
    assert scan(tree) == before


def test_suffixes_match_in_any_case(tree: Path) -> None:
    for old, new in (("0.png", "0.JPG"), ("1.png", "1.Jpeg"), ("2.png", "2.PNG")):
        (tree / "train" / "cat" / old).rename(tree / "train" / "cat" / new)
    assert len(scan(tree).train) == 12


def test_digest_depends_on_names_sizes_and_times(tree: Path) -> None:
    digests = {scan(tree).digest}
    file = tree / "train" / "cat" / "0.png"
    os.utime(file, ns=(1, 1))
    digests.add(scan(tree).digest)
    with open(file, "ab") as stream:
        stream.write(b"\0")
    os.utime(file, ns=(1, 1))
    digests.add(scan(tree).digest)
    file.rename(file.with_name("00.png"))
    digests.add(scan(tree).digest)
    assert len(digests) == 4


def test_digest_depends_on_the_path(tree: Path) -> None:
    digest = scan(tree).digest
    assert scan(tree.rename(tree.with_name("moved"))).digest != digest


def test_error_names_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data.root=.*nowhere: no such folder"):
        scan(tmp_path / "nowhere")


@pytest.mark.parametrize("split", ["train", "test"])
def test_error_names_a_missing_split(split: str, tree: Path) -> None:
    (tree / split).rename(tree / "other")
    with pytest.raises(FileNotFoundError, match=rf"data.root=.*tree: no {split}/ in it, only "):
        scan(tree)


def test_error_names_a_class_in_only_one_split(tree: Path) -> None:
    (tree / "test" / "dog").rename(tree / "train" / "fox")
    with pytest.raises(ValueError, match="class 'dog' is only in train/"):
        scan(tree)


def test_error_names_a_class_without_images(tree: Path) -> None:
    for file in (tree / "test" / "dog").iterdir():
        file.rename(file.with_suffix(".gif"))
    with pytest.raises(ValueError, match=r"data.root=.*tree: test/dog contains no image"):
        scan(tree)


def test_splits_without_classes_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(ValueError, match="train/ contains no class folder"):
        scan(tmp_path)
