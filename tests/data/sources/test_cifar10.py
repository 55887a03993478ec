"""CIFAR-10 from a local or downloaded archive, and the remedies if there is none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from prunelab.data.sources.cifar10 import CIFAR10

Write = Callable[[dict[str, bytes]], tuple[Path, str]]
NOWHERE = "file:///no/such/cifar-10-python.tar.gz"


def test_existing_archive_is_used_without_a_network(
    members: dict[str, bytes],
    arrays: dict[str, tuple[np.ndarray, list[int]]],
    write_archive: Write,
    tmp_path: Path,
) -> None:
    path, md5 = write_archive(members)
    splits = CIFAR10(str(path.parent), NOWHERE, md5, val=10, cache=str(tmp_path / "cache")).load()
    assert (len(splits.train), len(splits.val), len(splits.test)) == (40, 10, 10)
    assert splits.val.y.sort().values.tolist() == list(range(10))
    assert torch.equal(splits.test.x.flatten(1), torch.from_numpy(arrays["test_batch"][0]))


def test_archive_is_downloaded_once_to_the_cache_folder(
    members: dict[str, bytes], write_archive: Write, tmp_path: Path
) -> None:
    path, md5 = write_archive(members)
    source = CIFAR10(url=path.as_uri(), md5=md5, val=10, cache=str(tmp_path / "cache"))
    source.load()
    names = sorted(p.name for p in (tmp_path / "cache").iterdir())
    assert names == ["cifar-10-python.tar.gz", f"{source.key()}.safetensors"]
    (tmp_path / "cache" / "cifar-10-python.tar.gz").unlink()
    path.unlink()
    source.check()
    assert len(source.load().test) == 10


def test_error_without_archive_cache_and_network_names_the_remedies(tmp_path: Path) -> None:
    source = CIFAR10(url=NOWHERE, cache=str(tmp_path / "cache"))
    for call in (source.check, source.load):
        with pytest.raises(RuntimeError, match=r"no answer within 5 s .*data.url=URL.*data=image_folder.*data=shapes"):
            call()
    assert list((tmp_path / "cache").iterdir()) == []


def test_error_for_a_damaged_cache_without_archive_names_the_remedies(tmp_path: Path) -> None:
    source = CIFAR10(url=NOWHERE, cache=str(tmp_path))
    (tmp_path / f"{source.key()}.safetensors").write_bytes(b"?")
    with pytest.raises(RuntimeError, match="data=shapes"):
        source.load()


def test_error_names_a_truncated_archive(members: dict[str, bytes], write_archive: Write, tmp_path: Path) -> None:
    path, md5 = write_archive(members)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(RuntimeError, match=rf"cifar-10-python.tar.gz: MD5 [0-9a-f]+, expected {md5}"):
        CIFAR10(str(path.parent), NOWHERE, md5, cache=str(tmp_path / "cache")).check()
    assert path.exists()


def test_another_checksum_is_another_cache_file() -> None:
    assert CIFAR10().key() != CIFAR10(md5="0" * 32).key()
