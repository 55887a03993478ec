"""Fixtures for data tests: small image folders and archives, generated on the fly."""

import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from prunelab.data.sources import cifar10

CLASSES = ("cat", "dog")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes with six training and two test images each, as PNG: lossless, so pixels can be compared."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for name in CLASSES:
            folder = tmp_path / "tree" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "tree"


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings, as in the official batches."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + len(value).to_bytes(4, "little") + value)
        self.memoize(value)

    dispatch[bytes] = save_string


def dumps(value: object) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(value)
    return stream.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


@pytest.fixture
def python2_dumps() -> Callable[[object], bytes]:
    """Pickles as the official batches were pickled."""
    return dumps


@pytest.fixture
def write_archive(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """Writes members into an archive with the official name; returns its path."""

    def write(members: dict[str, bytes]) -> Path:
        path = tmp_path / "mirror" / "cifar-10-python.tar.gz"
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w:gz") as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path

    return write


@pytest.fixture
def arrays() -> dict[str, tuple[np.ndarray, list[int]]]:
    """Ten images in each of the six batches, one of each class."""
    rng = np.random.default_rng(1)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    return {n: (rng.integers(0, 256, (10, 3072), dtype=np.uint8), rng.permutation(10).tolist()) for n in names}


@pytest.fixture
def members(arrays: dict[str, tuple[np.ndarray, list[int]]]) -> dict[str, bytes]:
    """The seven files of the official archive, containing `arrays`."""
    batches = {n: dumps({b"data": x, b"labels": y}) for n, (x, y) in arrays.items()}
    names = [f"class{i}".encode() for i in range(10)]
    return batches | {"batches.meta": dumps({b"label_names": names, b"num_vis": 3072})}


@pytest.fixture
def published(
    members: dict[str, bytes], write_archive: Callable[[dict[str, bytes]], Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The archive of `members`, as if its checksums and theirs were the published ones."""
    path, md5 = write_archive(members), {name: hashlib.md5(content).hexdigest() for name, content in members.items()}
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(path.read_bytes()).hexdigest())
    train, test = ([[name, md5[name]] for name in members if name.startswith(kind)] for kind in ("data_batch", "test"))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", test)
    monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"md5": md5["batches.meta"]})
    return path
