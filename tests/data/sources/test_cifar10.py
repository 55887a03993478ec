"""CIFAR-10 from a local or downloaded archive, and the remedies if there is none."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from prunelab.data.sources.cifar10 import CIFAR10, MD5
from prunelab.data.sources.torchvision import Torchvision

Write = Callable[[dict[str, bytes]], Path]
NOWHERE = "file:///no/such/cifar-10-python.tar.gz"


def test_existing_archive_is_used_without_a_network(
    published: Path, arrays: dict[str, tuple[np.ndarray, list[int]]], tmp_path: Path
) -> None:
    splits = CIFAR10(str(published.parent), NOWHERE, val=10, cache=str(tmp_path / "cache")).load()
    assert (len(splits.train), len(splits.val), len(splits.test)) == (40, 10, 10)
    assert splits.val.y.sort().values.tolist() == list(range(10))
    assert torch.equal(splits.test.x.flatten(1), torch.from_numpy(arrays["test_batch"][0]))


def test_archive_is_downloaded_once_to_the_cache_folder(published: Path, tmp_path: Path) -> None:
    source = CIFAR10(url=published.as_uri(), val=10, cache=str(tmp_path / "cache"))
    source.load()
    names = sorted(p.name for p in (tmp_path / "cache").iterdir())
    assert names == ["cifar-10-python.tar.gz", f"{source.key()}.safetensors"]
    (tmp_path / "cache" / "cifar-10-python.tar.gz").unlink()
    published.unlink()
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


def test_the_archive_itself_for_root_is_refused_for_what_it_is(published: Path, tmp_path: Path) -> None:
    for kind in (CIFAR10, Torchvision):
        with pytest.raises(NotADirectoryError, match=rf"a file; give the folder .* data.root={published.parent}$"):
            kind(root=str(published), cache=str(tmp_path / "cache")).check()


def test_the_unpacked_archive_is_not_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(RuntimeError, match=rf"unpacked, which data=torchvision .* data.root={tmp_path} reads"):
        CIFAR10(str(tmp_path), NOWHERE, cache=str(tmp_path / "cache")).check()


def test_an_archive_of_another_checksum_is_refused(
    members: dict[str, bytes], write_archive: Write, tmp_path: Path
) -> None:
    path = write_archive(members)
    with pytest.raises(RuntimeError, match=r"cifar-10-python.tar.gz: MD5 [0-9a-f]+, expected c58f30108f718f92721a"):
        CIFAR10(str(path.parent), NOWHERE, cache=str(tmp_path / "cache")).check()
    assert path.exists()


def test_no_setting_replaces_the_published_checksum() -> None:
    assert "md5" not in {field.name for field in fields(CIFAR10)}
    assert datasets.CIFAR10.tgz_md5 == MD5
