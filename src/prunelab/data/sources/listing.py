"""Image files of a folder, and a digest that detects changes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Listing:
    """(path, label) of all images in a fixed order, and a hash of their names, sizes and modification times."""

    classes: tuple[str, ...]
    train: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]
    digest: str


def scan(root: Path) -> Listing:
    """List `root/{train,test}/<class>/*`; other and hidden files are ignored.

    60,000 files take about 0.3 s. Raises ValueError if a split has a class without images.
    """
    names = classes(root)
    digest = hashlib.sha256(str(root.resolve()).encode())
    splits: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for split, files in splits.items():
        for label, name in enumerate(names):
            entries = images(root / split / name)
            if not entries:
                raise ValueError(f"data.root={root}: {split}/{name} contains no image ({', '.join(SUFFIXES)})")
            for entry in entries:
                stat = entry.stat()
                digest.update(f"{split}/{name}/{entry.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
            files += [(entry.path, label) for entry in entries]
    return Listing(names, tuple(splits["train"]), tuple(splits["test"]), digest.hexdigest())


def classes(root: Path) -> tuple[str, ...]:
    """Sorted class names; raises FileNotFoundError unless both splits exist, ValueError if they differ."""
    if not root.is_dir():
        raise FileNotFoundError(f"data.root={root}: no such folder; expected one with train/<class>/ and test/<class>/")
    for split in ("train", "test"):
        if not (root / split).is_dir():
            inside = ", ".join(names(root)) or "no folders"
            raise FileNotFoundError(f"data.root={root}: no {split}/ in it, only {inside}")
    train, test = names(root / "train"), names(root / "test")
    if unmatched := sorted(set(train) ^ set(test)):
        split = "train" if unmatched[0] in train else "test"
        raise ValueError(f"data.root={root}: class {unmatched[0]!r} is only in {split}/; add the other or remove it")
    if not train:
        raise ValueError(f"data.root={root}: train/ contains no class folder; expected train/<class>/*.jpg")
    return tuple(train)


def names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def images(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        files = [e for e in entries if e.name.lower().endswith(SUFFIXES) and not e.name.startswith(".")]
    return sorted(files, key=lambda entry: entry.name)
