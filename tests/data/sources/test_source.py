from dataclasses import dataclass
from pathlib import Path

import pytest

from prunelab.data.dataset import Decoded
from prunelab.data.sources.source import Source


@dataclass(frozen=True)
class Absent(Source):
    cache: str
    val: int = 0
    split_seed: int = 0

    def check(self) -> None:
        raise RuntimeError("data.root=nowhere")

    def key(self) -> str:
        raise AssertionError("worked on before the check")

    def decode(self) -> Decoded:
        raise AssertionError("decoded")


def test_nothing_is_done_before_the_check(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="nowhere"):
        Absent(str(tmp_path / "cache")).load()
    assert list(tmp_path.iterdir()) == []
