"""Data sets of torchvision, made tiny: each is read by torchvision's class, behind its published MD5."""

import gzip
import hashlib
import pickle
import re
import sys
import tarfile
import types
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets
from torchvision.datasets import cifar

from prunelab.data.sources import size as memory_room
from prunelab.data.sources.torchvision import NAMES, Torchvision

Made = tuple[Path, np.ndarray, list[int]]  # the folder, the test images as in the files, their labels
N = 20  # images in each part


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (N, *shape), dtype=np.uint8)


LABELS = [i % 10 for i in range(N)]


def make_cifar(root: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, parts: dict[str, str], labels: str) -> Made:
    """`parts`: which of kind's lists each file is in."""
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    for number, name in enumerate(parts):
        (folder / name).write_bytes(pickle.dumps({"data": pixels(number, 3072), labels: LABELS}))
    meta = folder / kind.meta["filename"]
    meta.write_bytes(pickle.dumps({kind.meta["key"]: [f"class {i}" for i in range(10)]}))
    for which in ("train_list", "test_list"):
        files = [[name, md5(folder / name)] for name, listed in parts.items() if listed == which]
        monkeypatch.setattr(kind, which, files)
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5(meta)})
    return root, pixels(len(parts) - 1, 3072).reshape(N, 3, 32, 32), LABELS


def cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    parts = {f"data_batch_{i}": "train_list" for i in (1, 2)} | {"test_batch": "test_list"}
    return make_cifar(root, monkeypatch, datasets.CIFAR10, parts, "labels")


def cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    parts = {"train": "train_list", "test": "test_list"}
    return make_cifar(root, monkeypatch, datasets.CIFAR100, parts, "fine_labels")


def fashion(root: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for seed, part in enumerate(("train", "t10k")):
        head = b"\0\0\x08\x03" + b"".join(side.to_bytes(4, "big") for side in (N, 28, 28))
        images = gzip.compress(head + pixels(seed, 28, 28).tobytes())
        labels = gzip.compress(b"\0\0\x08\x01" + N.to_bytes(4, "big") + bytes(LABELS))
        (raw / f"{part}-images-idx3-ubyte.gz").write_bytes(images)
        (raw / f"{part}-labels-idx1-ubyte.gz").write_bytes(labels)
    files = [(name, md5(raw / name)) for name, _ in datasets.FashionMNIST.resources]
    monkeypatch.setattr(datasets.FashionMNIST, "resources", files)
    return root, np.repeat(pixels(1, 28, 28)[:, None], 3, axis=1), LABELS


def svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """SciPy, which need not be installed, is one function here; SVHN calls the digit 0 a 10."""
    contents = {}
    for seed, part in enumerate(("train", "test")):
        path = root / f"{part}_32x32.mat"
        root.mkdir(exist_ok=True)
        path.write_bytes(b"mat %d" % seed)
        contents[path.name] = {
            "X": pixels(seed, 3, 32, 32).transpose(2, 3, 1, 0),
            "y": np.array([[label or 10] for label in LABELS]),
        }
    scipy, io = types.ModuleType("scipy"), types.ModuleType("scipy.io")
    io.loadmat = lambda path: contents[Path(path).name]  # type: ignore[attr-defined]
    scipy.io = io  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "scipy", scipy)
    monkeypatch.setitem(sys.modules, "scipy.io", io)
    lists = {
        part: ["http://nowhere", f"{part}_32x32.mat", md5(root / f"{part}_32x32.mat")] for part in ("train", "test")
    }
    monkeypatch.setattr(datasets.SVHN, "split_list", lists)
    return root, pixels(1, 3, 32, 32), LABELS


MAKERS = {"CIFAR10": cifar10, "CIFAR100": cifar100, "SVHN": svhn, "FashionMNIST": fashion}


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Torchvision]:
    """A source of the files in tmp_path / "root"."""
    return lambda name, **given: Torchvision(
        **{"name": name, "root": str(tmp_path / "root"), "val": 10, "cache": str(tmp_path / "cache"), **given}
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_data_set_is_read_as_it_lies_there(
    name: str, source: Callable[..., Torchvision], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, images, labels = MAKERS[name](tmp_path / "root", monkeypatch)
    splits = source(name, size=None).load()
    assert torch.equal(splits.test.x, torch.from_numpy(images))
    assert splits.test.y.tolist() == labels
    assert splits.test.y.dtype == torch.int64
    assert len(splits.val) == 10
    assert len(splits.train) == (30 if name == "CIFAR10" else 10)
    assert len(splits.classes) == 10
    assert source(name, size=20).load().test.x.shape == (N, 3, 20, 20)


def test_a_size_resizes_the_whole_image(
    source: Callable[..., Torchvision], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar10(tmp_path / "root", monkeypatch)
    small, whole = (source("CIFAR10", size=size).load().test.x.double() for size in (16, 32))
    pooled = torch.nn.functional.avg_pool2d(whole, 2)
    # antialiased bilinear interpolation by 2 weighs 1, 3, 3, 1: within the image close to the mean of each square
    assert (small - pooled).abs().mean() < 25
    assert torch.corrcoef(torch.stack([small.flatten(), pooled.flatten()]))[0, 1] > 0.8


def test_an_archive_is_unpacked_for_the_moment_only(
    source: Callable[..., Torchvision], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, images, _ = cifar10(tmp_path / "unpacked", monkeypatch)
    (tmp_path / "root").mkdir()
    archive = tmp_path / "root" / datasets.CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root / "cifar-10-batches-py", "cifar-10-batches-py")
    with pytest.raises(RuntimeError, match=r"cifar-10-python.tar.gz: MD5 [0-9a-f]+, expected c58f3010"):
        source("CIFAR10").check()
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive))
    assert torch.equal(source("CIFAR10").load().test.x, torch.from_numpy(images))
    assert list((tmp_path / "root").iterdir()) == [archive]


def test_what_is_missing_is_downloaded(
    source: Callable[..., Torchvision], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, images, _ = fashion(tmp_path / "mirror", monkeypatch)
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [(root / "FashionMNIST" / "raw").as_uri() + "/"])
    assert torch.equal(source("FashionMNIST", size=None).load().test.x, torch.from_numpy(images))


@pytest.mark.parametrize("name", NAMES)
def test_without_files_and_network_the_error_names_file_and_remedy(
    name: str, source: Callable[..., Torchvision], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    missing = rf"no answer .*and there is no {re.escape(str(tmp_path))}/.*; put the file there, or set data.root"
    with pytest.raises(RuntimeError, match=missing):
        source(name).check()


class MakeFolder:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.mkdir, (Path("owned"),)  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
@pytest.mark.parametrize("damage", [b"", b"cut", pickle.dumps(MakeFolder())], ids=["empty", "cut", "code"])
def test_no_pickle_is_loaded_but_the_published_ones(
    name: str,
    damage: bytes,
    source: Callable[..., Torchvision],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cifar10(tmp_path / "root", monkeypatch)
    (tmp_path / "root" / "cifar-10-batches-py" / name).write_bytes(damage)
    load = pickle.load

    def spied(file: Any, **options: str) -> Any:
        assert Path(file.name).name != name, "it was unpickled"
        return load(file, **options)

    monkeypatch.setattr(cifar.pickle, "load", spied)
    for call in (source("CIFAR10").check, source("CIFAR10").load):
        with pytest.raises(RuntimeError, match=rf"{name}: MD5 [0-9a-f]+, expected"):
            call()
    with pytest.raises(RuntimeError, match="corrupted"):  # torchvision by itself, too
        datasets.CIFAR10(tmp_path / "root", train=True)
    (tmp_path / "root" / "cifar-10-batches-py" / name).unlink()
    with pytest.raises(RuntimeError, match=f"{name}: no such file; unpack the archive again"):
        source("CIFAR10").check()


def test_no_setting_replaces_a_published_checksum() -> None:
    assert {field.name for field in fields(Torchvision)} == {"name", "root", "size", "val", "split_seed", "cache"}


def test_svhn_without_scipy_says_how_to_install_it(
    source: Callable[..., Torchvision], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    svhn(tmp_path / "root", monkeypatch)
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(RuntimeError, match=r"data.name=SVHN needs SciPy: pip install 'prunelab\[svhn\]'"):
        source("SVHN").load()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "cifar10"}, "data.name=cifar10: expected one of CIFAR10, CIFAR100, SVHN, FashionMNIST"),
        ({"name": "folder"}, "data.name=folder"),
        ({"size": 0}, "data.size=0: expected a number of pixels"),
        ({"size": "big"}, "data.size=big: expected a number of pixels"),
        ({"size": True}, "data.size=True: expected a number of pixels"),
    ],
)
def test_impossible_settings_are_refused(
    given: dict[str, Any], message: str, source: Callable[..., Torchvision]
) -> None:
    with pytest.raises(ValueError, match=message):
        source(**{"name": "CIFAR10"} | given).load()


def test_images_that_do_not_fit_into_memory_are_refused_with_the_arithmetic(
    source: Callable[..., Torchvision], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar10(tmp_path / "root", monkeypatch)
    monkeypatch.setattr(memory_room, "memory", lambda: 10_000_000)
    with pytest.raises(
        ValueError, match=r"^data.size=224: 60 x 3 x 224 x 224 bytes of images are 0.0 GB, .* has 0.0 GB"
    ):
        source("CIFAR10", size=224).load()
    monkeypatch.setattr(memory_room, "memory", lambda: 2 * 60 * 3 * 224 * 224)
    assert source("CIFAR10", size=224).load().test.x.shape == (N, 3, 224, 224)
