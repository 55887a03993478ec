"""Reading the CIFAR-10 archive; of any other, torchvision unpickles nothing."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import cifar

from prunelab.data.sources.archive import read_archive

Write = Callable[[dict[str, bytes]], Path]
Arrays = dict[str, tuple[np.ndarray, list[int]]]


def test_batches_are_read_in_order_and_plane_by_plane(published: Path, arrays: Arrays) -> None:
    dataset = read_archive(published)
    assert (dataset.x_train.shape, dataset.x_train.dtype) == ((50, 3, 32, 32), torch.uint8)
    assert dataset.y_train.dtype == torch.int64
    assert dataset.classes == tuple(f"class{i}" for i in range(10))
    data, labels = arrays["data_batch_2"]
    assert dataset.y_train[10:20].tolist() == labels
    # Pixel (row 2, column 5) of the blue plane is number 2 * 1024 + 2 * 32 + 5 of its row.
    assert dataset.x_train[10:20, 2, 2, 5].tolist() == data[:, 2048 + 64 + 5].tolist()
    assert torch.equal(dataset.x_test.flatten(1), torch.from_numpy(arrays["test_batch"][0]))


def test_fixture_is_pickled_as_by_python_2(members: dict[str, bytes]) -> None:
    assert b"cnumpy.core.multiarray\n_reconstruct" in members["test_batch"]
    assert b"_codecs" not in members["test_batch"]


class MakeFolder:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("owned",)


DTYPE = b"cnumpy\ndtype\nU\x02%b\x85R"
VIEW = b"\x80\x02cnumpy\nndarray\n(K\x02\x85" + DTYPE + b"U\x10AAAAAAAAAAAAAAAAtR."  # of two elements over 16 bytes
FORGED = {
    "code": pickle.dumps(MakeFolder()),
    "code in an array": pickle.dumps({b"data": np.array([MakeFolder()], dtype=object), b"labels": [0]}),
    "bytes as pointers": VIEW % b"O8",
    "view over bytes": VIEW % b"i8",
    "structured dtype": pickle.dumps({b"data": np.zeros(1, [("a", "u1")])}),
    "subarray dtype": pickle.dumps({b"data": np.dtype((np.uint8, (2, 3)))}),
    "dtype with a state": b"\x80\x02"
    + DTYPE % b"u1"
    + b"(K\x03U\x01|NNNI-1\nI-1\nK\x3ftb.",  # its flags: holds objects
    "shape": pickle.dumps({b"data": np.zeros((10, 3071), np.uint8), b"labels": [0] * 10}),
    "label": pickle.dumps({b"data": np.zeros((10, 3072), np.uint8), b"labels": [10] * 10}),
}


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
@pytest.mark.parametrize("forged", FORGED)
def test_only_files_with_their_published_checksum_are_unpickled(
    forged: str,
    name: str,
    published: Path,
    members: dict[str, bytes],
    write_archive: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load, loaded = pickle.load, list[bytes]()

    def spied(file: object, **options: str) -> object:
        loaded.append(Path(file.name).read_bytes())
        assert loaded[-1] in members.values()
        return load(file, **options)

    monkeypatch.setattr(cifar.pickle, "load", spied)
    read_archive(published)
    assert set(loaded) == set(members.values())
    path = write_archive(members | {name: FORGED[forged]})  # as if its own checksum were the published one
    with pytest.raises(RuntimeError, match="corrupted"):
        read_archive(path)
