"""CIFAR-10 from its official archive (Krizhevsky, 2009), or images of your own in its format."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from prunelab.data.dataset import Dataset
from prunelab.data.sources.archive import read_archive
from prunelab.data.sources.cache import cache_folder, entry
from prunelab.data.sources.download import fetch, refuse_file, require
from prunelab.data.sources.own_archive import read_own_archive
from prunelab.data.sources.source import Source

MD5 = "c58f30108f718f92721af3b95e74349a"  # of the archive, as published
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
UNPACKED = "cifar-10-batches-py"


@dataclass(frozen=True)
class CIFAR10(Source):
    """The archive `root/cifar-10-python.tar.gz`, downloaded from `url` if it is missing.

    `root` defaults to the cache folder, where an archive of another MD5 than the published has a name of its own.
    Only the published archive is unpickled; of any other `md5`, own_archive.py reads the file.
    """

    root: str | None = None
    url: str = URL
    md5: str = MD5
    val: int = 5000
    split_seed: int = 0
    cache: str | None = None

    def check(self) -> None:
        """Raises ValueError for an `md5` that is none, RuntimeError if the file has another, or is not to be had."""
        if not (isinstance(self.md5, str) and re.fullmatch("[0-9a-f]{32}", self.md5)):
            digits = "a text of 32 hexadecimal digits in lower case"
            raise ValueError(f"data.md5={self.md5}: expected {digits}, as md5sum prints for the archive")
        if not entry(self.cache, self.key()).exists():
            self.require_archive()

    def key(self) -> str:
        return f"cifar10-{MD5[:16] if self.published else self.md5}"

    def decode(self) -> Dataset:
        self.require_archive()  # again: `check` trusts the cache file, which may be damaged
        if not self.archive.exists():
            fetch(self.url, self.archive, self.md5)
        return read_archive(self.archive) if self.published else read_own_archive(self.archive)

    def require_archive(self) -> None:
        """Raise RuntimeError unless the archive is intact or can be downloaded; for a file, NotADirectoryError."""
        refuse_file(self.root)
        if self.published and not self.archive.exists() and (unpacked := self.archive.parent / UNPACKED).is_dir():
            reader = f"data=torchvision data.name=CIFAR10 data.root={unpacked.parent}"
            raise RuntimeError(f"{unpacked}: the archive, but unpacked, which {reader} reads")
        if self.url == URL and not (self.published or self.archive.exists()):
            given = f"data.md5={self.md5} is not that of the archive at {URL}"
            raise RuntimeError(f"{self.archive}: no such file, and {given}; put yours there, or give data.url=")
        require(self.url, self.archive, self.md5, REMEDIES)

    @property
    def published(self) -> bool:
        return self.md5 == MD5

    @property
    def archive(self) -> Path:
        name = "cifar-10-python" if self.root or self.published else self.key()
        return cache_folder(self.root or self.cache) / f"{name}.tar.gz"


REMEDIES = (
    "put the archive there, give a mirror with data.url=URL, read unpacked images with "
    "data=image_folder data.root=DIR, or use the built-in data set, data=shapes"
)
