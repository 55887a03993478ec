"""What must a data set offer?"""

from __future__ import annotations

from abc import ABC, abstractmethod

from prunelab.data.dataset import Decoded
from prunelab.data.images import Splits
from prunelab.data.sources.cache import cached, entry


class Source(ABC):
    """A data set: decoded once, kept in the folder `cache`, with `val` images held out by `split_seed`."""

    val: int
    split_seed: int
    cache: str

    @abstractmethod
    def check(self) -> None:
        """Within seconds, raise ValueError, FileNotFoundError or RuntimeError where `load` would fail."""

    @abstractmethod
    def key(self) -> str:
        """A file name that differs whenever the decoded images would."""

    @abstractmethod
    def decode(self) -> Decoded:
        """Every image, the slow way."""

    def load(self) -> Splits:
        """The three splits, mapped from the cache; raises what `check` raises, and on unreadable images."""
        self.check()
        return cached(entry(self.cache, self.key()), self.decode).split(self.val, self.split_seed)
