"""CIFAR-10 from its official archive (Krizhevsky, 2009)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prunelab.data.dataset import Dataset
from prunelab.data.sources.archive import read_archive
from prunelab.data.sources.cache import cache_folder, entry
from prunelab.data.sources.download import fetch, refuse_file, require
from prunelab.data.sources.source import Source

MD5 = "c58f30108f718f92721af3b95e74349a"  # of the archive, as published
UNPACKED = "cifar-10-batches-py"


@dataclass(frozen=True)
class CIFAR10(Source):
    """The archive `root/cifar-10-python.tar.gz`, downloaded from `url` if it is missing.

    `root` defaults to the cache folder. The archive must have the published MD5, which no setting replaces.
    """

    root: str | None = None
    url: str = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    val: int = 5000
    split_seed: int = 0
    cache: str | None = None

    def check(self) -> None:
        """Raises RuntimeError for a wrong checksum, or if archive, cache and network are all missing."""
        if not entry(self.cache, self.key()).exists():
            self.require_archive()

    def key(self) -> str:
        return f"cifar10-{MD5[:16]}"

    def decode(self) -> Dataset:
        self.require_archive()  # again: `check` trusts the cache file, which may be damaged
        if not self.archive.exists():
            fetch(self.url, self.archive, MD5)
        return read_archive(self.archive)

    def require_archive(self) -> None:
        """Raise RuntimeError unless the archive is intact or can be downloaded; for a file, NotADirectoryError."""
        refuse_file(self.root)
        if not self.archive.exists() and (unpacked := self.archive.parent / UNPACKED).is_dir():
            reader = f"data=torchvision data.name=CIFAR10 data.root={unpacked.parent}"
            raise RuntimeError(f"{unpacked}: the archive, but unpacked, which {reader} reads")
        require(self.url, self.archive, MD5, REMEDIES)

    @property
    def archive(self) -> Path:
        return cache_folder(self.root or self.cache) / "cifar-10-python.tar.gz"


REMEDIES = (
    "put the archive there, give a mirror with data.url=URL, read unpacked images with "
    "data=image_folder data.root=DIR, or use the built-in data set, data=shapes"
)
