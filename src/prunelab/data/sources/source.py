"""Interface of a data source."""

from __future__ import annotations

from abc import ABC, abstractmethod

from prunelab.data.dataset import Dataset
from prunelab.data.images import Splits
from prunelab.data.sources.cache import cached, entry


class Source(ABC):
    """Decodes a data set once, caches it in the folder `cache`, and holds out `val` images by `split_seed`."""

    val: int
    split_seed: int
    cache: str | None  # None: as the environment says (cache.py)

    @abstractmethod
    def check(self) -> None:
        """Raise ValueError, FileNotFoundError or RuntimeError, within seconds, if `load` would fail."""

    @abstractmethod
    def key(self) -> str:
        """A file name that changes whenever the decoded images would."""

    @abstractmethod
    def decode(self) -> Dataset:
        """Decode every image, without the cache."""

    def load(self) -> Splits:
        """The three splits, memory-mapped from the cache; raises as `check` does, and for unreadable images."""
        self.check()
        return cached(entry(self.cache, self.key()), self.decode).split(self.val, self.split_seed)
