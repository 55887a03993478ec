"""CIFAR-10 from a local or downloaded archive, and the remedies if there is none; archives of one's own."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from prunelab.data.sources import archive, cifar10
from prunelab.data.sources.cifar10 import CIFAR10, MD5
from prunelab.data.sources.torchvision import Torchvision

Write = Callable[[dict[str, bytes]], Path]
NOWHERE = "file:///no/such/cifar-10-python.tar.gz"


def test_existing_archive_is_used_without_a_network(
    published: Path, arrays: dict[str, tuple[np.ndarray, list[int]]], tmp_path: Path
) -> None:
    splits = CIFAR10(str(published.parent), NOWHERE, cifar10.MD5, val=10, cache=str(tmp_path / "cache")).load()
    assert (len(splits.train), len(splits.val), len(splits.test)) == (40, 10, 10)
    assert splits.val.y.sort().values.tolist() == list(range(10))
    assert torch.equal(splits.test.x.flatten(1), torch.from_numpy(arrays["test_batch"][0]))


def test_archive_is_downloaded_once_to_the_cache_folder(published: Path, tmp_path: Path) -> None:
    source = CIFAR10(url=published.as_uri(), md5=cifar10.MD5, val=10, cache=str(tmp_path / "cache"))
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


def test_no_setting_replaces_the_checksum_of_what_is_unpickled(
    members: dict[str, bytes], write_archive: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert datasets.CIFAR10.tgz_md5 == CIFAR10().md5 == MD5
    path = write_archive(members)
    for module, name in ((pickle, "load"), (pickle, "loads"), (archive, "read_archive"), (cifar10, "read_archive")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("unpickled"))
    CIFAR10(str(path.parent), NOWHERE, md5(path), val=10, cache=str(tmp_path / "cache")).load()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_an_archive_of_ones_own_has_its_own_cache_and_the_bits_that_torchvision_reads(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    official = CIFAR10(url=published.as_uri(), md5=cifar10.MD5, val=10, cache=str(cache))
    expected = official.load()
    monkeypatch.setattr(cifar10, "MD5", MD5)
    own = CIFAR10(url=published.as_uri(), md5=md5(published), val=10, cache=str(cache))
    splits = own.load()
    assert (own.key(), CIFAR10().key()) == (f"cifar10-{md5(published)}", f"cifar10-{MD5[:16]}")
    names = [
        f"{own.key()}.safetensors",
        f"{own.key()}.tar.gz",
        "cifar-10-python.tar.gz",
        f"{own.key()[:24]}.safetensors",
    ]
    assert {file.name for file in cache.iterdir()} == set(names)
    assert (splits.fingerprint, splits.classes) == (expected.fingerprint, expected.classes)
    for split in ("train", "val", "test"):
        ours, theirs = getattr(splits, split), getattr(expected, split)
        assert torch.equal(ours.x, theirs.x)
        assert torch.equal(ours.y, theirs.y)
    published.unlink()
    own.check()


def test_an_archive_of_ones_own_has_the_checksum_that_was_given(
    members: dict[str, bytes], write_archive: Write, tmp_path: Path
) -> None:
    path, cache = write_archive(members), str(tmp_path / "cache")
    wrong = f"MD5 {md5(path)}, expected {'0' * 32}"
    with pytest.raises(RuntimeError, match=rf"{path}: {wrong}: truncated or .*, or if it .* data.md5={md5(path)}$"):
        CIFAR10(str(path.parent), NOWHERE, "0" * 32, cache=cache).check()
    with pytest.raises(RuntimeError, match=rf"{path.as_uri()}: {wrong}; the download was removed"):
        CIFAR10(url=path.as_uri(), md5="0" * 32, cache=cache).load()


def test_an_archive_of_ones_own_is_not_looked_for_where_the_published_one_is(tmp_path: Path) -> None:
    missing = f"{tmp_path}/cifar-10-python.tar.gz: no such file, and data.md5={'0' * 32} is not that of the archive at"
    with pytest.raises(RuntimeError, match=f"^{missing} .*; put yours there, or give data.url=$"):
        CIFAR10(str(tmp_path), md5="0" * 32, cache=str(tmp_path)).check()


@pytest.mark.parametrize("given", [MD5[:-1], MD5 + "0", MD5.upper(), "g" * 32, MD5 + "\n", "", None, 10**31])
def test_a_checksum_that_is_none_is_refused(given: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^data.md5={given}: expected a text of 32 hexadecimal digits in lower case"):
        CIFAR10(md5=given, url=NOWHERE, cache=str(tmp_path)).check()
