"""Listing of an image folder, its digest and its errors."""

import os
import time
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


def test_digest_depends_on_contents_of_equal_size_and_time(tree: Path) -> None:
    """As of uncompressed images that `cp -p`, rsync and tar put in the place of others."""
    file = (tree / "train" / "cat" / "0.png").rename(tree / "train" / "cat" / "0.BMP")
    digest, before = scan(tree).digest, file.stat()
    time.sleep(0.02)  # a tick of the file system's clock
    file.write_bytes(file.read_bytes()[::-1])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert scan(tree).digest != digest


def test_compressed_images_that_are_put_there_again_have_the_same_digest(tree: Path) -> None:
    """As on clusters that copy them to each node: another digest would be another copy in the cache."""
    digest, before = scan(tree).digest, (file := tree / "train" / "cat" / "0.png").stat()
    time.sleep(0.02)
    file.write_bytes(file.read_bytes())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert scan(tree).digest == digest


def test_digest_depends_on_the_path(tree: Path) -> None:
    digest = scan(tree).digest
    assert scan(tree.rename(tree.with_name("moved"))).digest != digest


def test_a_name_that_is_not_utf8_is_refused_with_the_remedy(tree: Path) -> None:
    name = os.fsdecode(b"odd\xff.png")
    try:
        (tree / "train" / "cat" / "0.png").rename(tree / "train" / "cat" / name)
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(ValueError, match=r"odd\\udcff\.png: its name is not UTF-8; rename it"):
        scan(tree)
