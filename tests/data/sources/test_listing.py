import os
from pathlib import Path

import pytest

from prunelab.data.sources.listing import scan


def test_classes_and_files_come_sorted(tree: Path) -> None:
    listing = scan(tree)
    assert listing.classes == ("cat", "dog")
    assert [(Path(p).parent.name, Path(p).name, y) for p, y in listing.test] == [
        ("cat", "0.png", 0),
        ("cat", "1.png", 0),
        ("dog", "0.png", 1),
        ("dog", "1.png", 1),
    ]


def test_hidden_and_other_files_are_passed_over(tree: Path) -> None:
    before = scan(tree)
    (tree / "train" / ".cache").mkdir()
    for name in (".hidden.png", "Thumbs.db", "labels.txt"):
        (tree / "train" / "cat" / name).touch()
    assert scan(tree) == before


def test_suffixes_count_in_any_case(tree: Path) -> None:
    for old, new in (("0.png", "0.JPG"), ("1.png", "1.Jpeg"), ("2.png", "2.PNG")):
        (tree / "train" / "cat" / old).rename(tree / "train" / "cat" / new)
    assert len(scan(tree).train) == 12


def test_digest_follows_names_sizes_and_times(tree: Path) -> None:
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


def test_a_copy_elsewhere_is_another_data_set(tree: Path) -> None:
    digest = scan(tree).digest
    assert scan(tree.rename(tree.with_name("moved"))).digest != digest


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data.root=.*nowhere: no such folder"):
        scan(tmp_path / "nowhere")


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_split_is_named(split: str, tree: Path) -> None:
    (tree / split).rename(tree / "other")
    with pytest.raises(FileNotFoundError, match=rf"data.root=.*tree: no {split}/ in it"):
        scan(tree)


def test_class_in_one_split_alone_is_named(tree: Path) -> None:
    (tree / "test" / "dog").rename(tree / "train" / "fox")
    with pytest.raises(ValueError, match="class 'dog' is in train/ alone"):
        scan(tree)


def test_class_without_images_is_named(tree: Path) -> None:
    for file in (tree / "test" / "dog").iterdir():
        file.rename(file.with_suffix(".gif"))
    with pytest.raises(ValueError, match=r"data.root=.*tree: test/dog holds no image"):
        scan(tree)


def test_splits_without_classes_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(ValueError, match="train/ holds no class folder"):
        scan(tmp_path)
