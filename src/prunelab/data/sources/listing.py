"""Image files of a folder, and a digest that detects changes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prunelab.core.text.printable import printable
from prunelab.data.sources.layout import classes, is_hidden, splits

SUFFIXES = (
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
RAW = (".bmp", ".pbm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff")  # may have one size whatever they show


@dataclass(frozen=True)
class Listing:
    """(path, label) of all images in a fixed order, and a hash of their names, sizes and modification times, and
    of `RAW` files also of when they were put there: copying sets the other times back.

    `left_out` counts the other files that are not hidden, by suffix.
    """

    classes: tuple[str, ...]
    train: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]
    digest: str
    left_out: Counter[str]


def scan(root: Path) -> Listing:
    """List the images below `root/train/<class>` and `root/test/<class>`, or what is there for test, at any depth.

    60,000 files take about 0.3 s. Raises as `classes` does, and ValueError if a split has a class without images.
    """
    names = classes(root)
    digest = hashlib.sha256(str(root.resolve()).encode())
    found: list[list[tuple[str, int]]] = []
    left_out: Counter[str] = Counter()
    for split in splits(root):
        left_out.update(_suffix(entry) for entry in os.scandir(root / split) if not _is_seen(entry))
        files: list[tuple[str, int]] = []
        for label, name in enumerate(names):
            entries, others = _images(root / split / name)
            if not entries:
                only = f", only {listed(others)}" if others else ""
                raise ValueError(
                    f"data.root={root}: {split}/{name} contains no image ({', '.join(SUFFIXES)}){only}; add images, or "
                    "remove the class"
                )
            for inside, entry in entries:
                stat = entry.stat()
                changed = f"\0{stat.st_ctime_ns}" if inside.lower().endswith(RAW) else ""
                digest.update(f"{split}/{name}/{inside}\0{stat.st_size}\0{stat.st_mtime_ns}{changed}\n".encode())
            files += [(entry.path, label) for _, entry in entries]
            left_out += others
        found.append(files)
    return Listing(names, tuple(found[0]), tuple(found[1]), digest.hexdigest(), left_out)


def listed(suffixes: Counter[str]) -> str:
    """Such as "12 .heic, 1 .txt"."""
    return ", ".join(
        f"{count} {suffix}" for suffix, count in sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))
    )


def _images(folder: Path) -> tuple[list[tuple[str, os.DirEntry[str]]], Counter[str]]:
    """The images by their path in `folder`, sorted by it, and the other files by suffix."""
    images, others = [], Counter[str]()
    for entry in _files(folder, ()):
        if entry.name.lower().endswith(SUFFIXES):
            if not entry.is_file():
                raise ValueError(f"{entry.path}: a link to nothing, or no file; remove it")
            if not _is_utf8(entry.path):
                raise ValueError(f"{printable(entry.path)}: its name is not UTF-8; rename it")
            images.append((entry.path[len(str(folder)) + 1 :], entry))
        else:
            others[_suffix(entry)] += 1
    return sorted(images, key=lambda image: image[0]), others


def _is_utf8(name: str) -> bool:
    try:
        return name.isascii() or bool(name.encode())
    except UnicodeEncodeError:  # of bytes that are none
        return False


def _files(folder: str | Path, above: tuple[tuple[int, int], ...]) -> Iterator[os.DirEntry[str]]:
    """All that is not hidden and no folder, in folders of folders too, and behind links; `above` are those it is in."""
    here = os.stat(folder)
    if (here.st_dev, here.st_ino) in above:
        raise ValueError(f"{folder}: a link to a folder that contains it; remove it")
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                yield from _files(entry.path, (*above, (here.st_dev, here.st_ino)))
            else:
                yield entry


def _suffix(entry: os.DirEntry[str]) -> str:
    return os.path.splitext(entry.name)[1].lower() or "without suffix"


def _is_seen(entry: os.DirEntry[str]) -> bool:
    """Whether it is a class, or nothing that a user would look for."""
    return entry.is_dir() or is_hidden(entry.name)
