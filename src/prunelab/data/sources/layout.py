"""How a folder of images is laid out: its splits and classes, and what to do where it is laid out otherwise."""

from __future__ import annotations

import os
from pathlib import Path

EXPECTED = "train/<class>/ and test/<class>/"
TEST = ("test", "val", "valid", "validation")  # of these the first that is there has the test images
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
OF_SYSTEMS = ("thumbs.db", "desktop.ini", "__macosx")  # what Windows and macOS leave behind


def splits(root: Path) -> tuple[str, str]:
    """The folders of the train and test images. Raises FileNotFoundError, or NotADirectoryError, without them."""
    if root.is_file():
        unpack = "unpack it, and give the" if root.name.lower().endswith(ARCHIVES) else "expected a"
        raise NotADirectoryError(f"data.root={root}: a file; {unpack} folder with {EXPECTED}")
    if not root.is_dir():
        raise FileNotFoundError(f"data.root={root}: no such folder; expected one with {EXPECTED}")
    inside = folders(root)
    test = [name for name in TEST if name in inside]
    if "train" not in inside or not test:
        missing = "test" if "train" in inside else "train"
        found = f"only {', '.join(inside[:10])}{' ...' if len(inside) > 10 else ''}" if inside else "nor another folder"
        raise FileNotFoundError(f"data.root={root}: no {missing}/ in it, {found}; {_remedy(root, inside)}")
    return "train", test[0]


def _remedy(root: Path, inside: list[str]) -> str:
    if "cifar-10-batches-py" in inside:
        return f"data=torchvision data.name=CIFAR10 data.root={root} reads it"
    for near in (root / name for name in inside) if root.name not in ("train", *TEST) else [root.parent]:
        if (near / "train").is_dir():
            return f"give data.root={near}"
    for name in inside:
        if name != (right := name.lower()) and right in ("train", *TEST):
            return f"rename {name}/ to {right}/"
    if "train" in inside:
        return "move some images of each class from train/<class>/ to test/<class>/"
    return "move most images of each class to train/<class>/, and the others to test/<class>/"


def classes(root: Path) -> tuple[str, ...]:
    """Sorted class names; raises as `splits` does, and ValueError if the classes of both differ."""
    train, test = (folders(root / split) for split in splits(root))
    if unmatched := sorted(set(train) ^ set(test)):
        first, names = unmatched[0], dict(zip(splits(root), (train, test), strict=True))
        here, there = sorted(names, key=lambda split: first not in names[split])
        alike = [name for name in names[there] if name.casefold() == first.casefold()]
        remedy = f"{there}/ has {alike[0]!r}: rename one" if alike else "add the other or remove it"
        raise ValueError(f"data.root={root}: class {first!r} is only in {here}/; {remedy}")
    if not train:
        raise ValueError(f"data.root={root}: train/ contains no class folder; expected train/<class>/*.jpg")
    return tuple(train)


def folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not is_hidden(e.name))


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in OF_SYSTEMS
