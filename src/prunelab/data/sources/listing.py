"""Which image files does a folder hold, and has it changed?"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Listing:
    """(path, label) of all images in a fixed order, and a hash of their names, sizes and times."""

    classes: tuple[str, ...]
    train: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]
    digest: str


def scan(root: Path) -> Listing:
    """List `root/{train,test}/<class>/*`; other files and hidden ones are passed over.

    60,000 files take about 0.3 s. Raises ValueError where a split has a class without images.
    """
    names = classes(root)
    digest = hashlib.sha256(str(root.resolve()).encode())
    found: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for split, files in found.items():
        for label, name in enumerate(names):
            entries = images(root / split / name)
            if not entries:
                raise ValueError(f"data.root={root}: {split}/{name} holds no image ({', '.join(SUFFIXES)})")
            for entry in entries:
                stat = entry.stat()
                digest.update(f"{split}/{name}/{entry.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
            files += [(entry.path, label) for entry in entries]
    return Listing(names, tuple(found["train"]), tuple(found["test"]), digest.hexdigest())


def classes(root: Path) -> tuple[str, ...]:
    """Class folders by name; raises FileNotFoundError without both splits, ValueError where these differ."""
    if not root.is_dir():
        raise FileNotFoundError(f"data.root={root}: no such folder; name one with train/<class>/ and test/<class>/")
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise FileNotFoundError(f"data.root={root}: no {split}/ in it, but {names(root) or 'no folder'}")
    train, test = names(root / "train"), names(root / "test")
    if lonely := sorted(set(train) ^ set(test)):
        where = "train" if lonely[0] in train else "test"
        raise ValueError(f"data.root={root}: class {lonely[0]!r} is in {where}/ alone; add the other or remove it")
    if not train:
        raise ValueError(f"data.root={root}: train/ holds no class folder; expected train/<class>/*.jpg")
    return tuple(train)


def names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def images(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        found = [e for e in entries if e.name.lower().endswith(SUFFIXES) and not e.name.startswith(".")]
    return sorted(found, key=lambda entry: entry.name)
