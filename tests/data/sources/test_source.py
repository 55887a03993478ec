"""The interface of data sources."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from prunelab.data.dataset import Dataset
from prunelab.data.sources.source import Source


@dataclass(frozen=True)
class Absent(Source):
    cache: str
    val: int = 0
    split_seed: int = 0

    def check(self) -> None:
        raise RuntimeError("data.root=nowhere")

    def key(self) -> str:
        raise AssertionError("continued despite the failed check")

    def decode(self) -> Dataset:
        raise AssertionError("decoded despite the failed check")


def test_load_checks_first_and_writes_nothing_if_that_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="nowhere"):
        Absent(str(tmp_path / "cache")).load()
    assert list(tmp_path.iterdir()) == []
