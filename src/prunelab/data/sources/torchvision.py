"""Data sets of torchvision by name, read by its own classes.

Those of CIFAR are pickles, which can run code. torchvision unpickles only files whose MD5 is the published one, a
constant of its code that no setting replaces; of the other archives the MD5 is compared here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunelab.data.dataset import Dataset
from prunelab.data.sources.cache import cache_folder, entry
from prunelab.data.sources.download import fetch, refuse_file, require, verify
from prunelab.data.sources.size import check_size, require_memory
from prunelab.data.sources.source import Source

NAMES = ("CIFAR10", "CIFAR100", "SVHN", "FashionMNIST")
DIGITS = tuple(map(str, range(10)))  # of SVHN, whose classes have no names
CHUNK = 1000  # images that are resized at once


@dataclass(frozen=True)
class Torchvision(Source):
    """The data set `name` in `root`, as torchvision leaves it there: archives, or unpacked pickles of CIFAR.

    What is missing is downloaded; `root` defaults to the cache folder. Grey images become RGB, and all `size`x`size`
    pixels; of None they keep their own, 28x28 in FashionMNIST and 32x32 in the others.
    """

    name: str = "CIFAR10"
    root: str | None = None
    size: int | None = 32
    val: int = 5000
    split_seed: int = 0
    cache: str | None = None

    def check(self) -> None:
        """Raises ValueError for a wrong name or size, RuntimeError for files that are damaged, or not to be had."""
        if self.name not in NAMES:
            raise ValueError(f"data.name={self.name}: expected one of {', '.join(NAMES)}")
        check_size(self.size)
        if not entry(self.cache, self.key()).exists():
            self.require_files()

    def key(self) -> str:
        return f"torchvision-{self.name}-{self.size}"

    def decode(self) -> Dataset:
        self.require_files()  # again: `check` trusts the cache file, which may be damaged
        for path, (url, md5) in self.archives().items():
            if not self.unpacked() and not path.exists():
                fetch(url, path, md5)
        with self.readable() as root:
            train, test = (self.part(root, train) for train in (True, False))
        require_memory(len(train.data) + len(test.data), self.size or train.data.shape[1])
        classes = tuple(getattr(train, "classes", DIGITS))
        return Dataset.from_tensors(_tensors(train, self.size), _tensors(test, self.size), classes)

    def require_files(self) -> None:
        """Raises RuntimeError unless each file has its published MD5, or can be downloaded."""
        refuse_file(self.root)
        if self.unpacked():
            for path, md5 in self.unpacked().items():
                if not path.exists():
                    raise RuntimeError(f"{path}: no such file; unpack the archive again")
                verify(path, md5)
            return
        for path, (url, md5) in self.archives().items():
            require(url, path, md5, "put the file there, or set data.root")

    def unpacked(self) -> dict[Path, str]:
        """The files of CIFAR beside their MD5; none of them, where their folder is not there."""
        folder = self.folder / str(getattr(self.kind, "base_folder", "no folder"))
        if not folder.is_dir():
            return {}
        files = [*self.kind.train_list, *self.kind.test_list, (self.kind.meta["filename"], self.kind.meta["md5"])]
        return {folder / name: md5 for name, md5 in files}

    def archives(self) -> dict[Path, tuple[str, str]]:
        """The files to download, where they lie, with their URL and MD5."""
        kind = self.kind
        if self.name == "SVHN":
            parts = (kind.split_list[split] for split in ("train", "test"))
            return {self.folder / file: (url, md5) for url, file, md5 in parts}
        if self.name == "FashionMNIST":
            raw = self.folder / self.name / "raw"
            return {raw / file: (f"{kind.mirrors[0]}{file}", md5) for file, md5 in kind.resources}
        return {self.folder / kind.filename: (kind.url, kind.tgz_md5)}

    @contextmanager
    def readable(self) -> Iterator[Path]:
        """A folder in which torchvision finds the files: `root` itself, or archives unpacked for the moment."""
        if self.unpacked() or self.name == "SVHN":
            yield self.folder
            return
        from torchvision.datasets.utils import extract_archive

        with tempfile.TemporaryDirectory() as folder:
            for path in self.archives():
                place = Path(folder) / path.relative_to(self.folder).parent
                place.mkdir(parents=True, exist_ok=True)
                extract_archive(path, place)
            yield Path(folder)

    def part(self, root: Path, train: bool) -> Any:
        if self.name != "SVHN":
            return self.kind(root, train=train)
        try:
            return self.kind(root, split="train" if train else "test")
        except ModuleNotFoundError as error:
            raise RuntimeError("data.name=SVHN needs SciPy: pip install 'prunelab[svhn]'") from error

    @property
    def kind(self) -> Any:
        """torchvision's class."""
        from torchvision import datasets  # only here: it takes seconds, and the cache does without

        return getattr(datasets, self.name)

    @property
    def folder(self) -> Path:
        return cache_folder(self.root or self.cache)


def _tensors(part: Any, size: int | None) -> tuple[Tensor, Tensor]:
    """uint8 (n, 3, size, size) and int64 (n,)."""
    x = torch.as_tensor(part.data)
    if x.dim() == 3:  # grey, (n, h, w)
        x = x[:, None].expand(-1, 3, -1, -1)
    elif x.shape[3] == 3:  # (n, h, w, 3)
        x = x.permute(0, 3, 1, 2)
    y = torch.as_tensor(part.targets if hasattr(part, "targets") else part.labels)
    return _resized(x, size).contiguous(), y.long()


def _resized(x: Tensor, size: int | None) -> Tensor:
    if size is None or tuple(x.shape[2:]) == (size, size):
        return x
    from torchvision.transforms.functional import resize

    return torch.cat([resize(chunk, [size, size], antialias=True) for chunk in x.split(CHUNK)])
