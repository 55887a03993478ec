"""Reading the CIFAR-10 archive, and refusing damaged or malicious ones."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from prunelab.data.sources.archive import read_archive

Write = Callable[[dict[str, bytes]], tuple[Path, str]]
Arrays = dict[str, tuple[np.ndarray, list[int]]]


def test_batches_are_read_in_order_and_plane_by_plane(
    members: dict[str, bytes], arrays: Arrays, write_archive: Write
) -> None:
    dataset = read_archive(write_archive(members)[0])
    assert dataset.x_train.shape == (50, 3, 32, 32)
    assert dataset.classes == tuple(f"class{i}" for i in range(10))
    data, labels = arrays["data_batch_2"]
    assert dataset.y_train[10:20].tolist() == labels
    # Pixel (row 2, column 5) of the blue plane is number 2 * 1024 + 2 * 32 + 5 of its row.
    assert dataset.x_train[10:20, 2, 2, 5].tolist() == data[:, 2048 + 64 + 5].tolist()
    assert torch.equal(dataset.x_test.flatten(1), torch.from_numpy(arrays["test_batch"][0]))


def test_fixture_is_pickled_as_by_python_2(members: dict[str, bytes]) -> None:
    assert b"cnumpy.core.multiarray\n_reconstruct" in members["test_batch"]
    assert b"_codecs" not in members["test_batch"]


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_pickle_that_runs_code_is_refused(members: dict[str, bytes], write_archive: Write, tmp_path: Path) -> None:
    target = tmp_path / "owned"
    for payload in (
        Malicious(target),
        {b"data": np.array([Malicious(target)], dtype=object), b"labels": [0]},
    ):
        path, _ = write_archive(members | {"data_batch_2": pickle.dumps(payload, protocol=4)})
        with pytest.raises(RuntimeError, match="mkdir: not part of a CIFAR-10 batch"):
            read_archive(path)
        assert not target.exists()


def test_missing_batch_is_named(members: dict[str, bytes], write_archive: Write) -> None:
    del members["data_batch_4"]
    with pytest.raises(RuntimeError, match=r"cifar-10-python.tar.gz: not the CIFAR-10 .*data_batch_4"):
        read_archive(write_archive(members)[0])


@pytest.mark.parametrize(("shape", "kind"), [((4, 3072), "uint8"), ((3, 3071), "uint8"), ((3, 3072), "uint16")])
def test_batch_of_another_shape_or_type_is_refused(
    shape: tuple[int, int],
    kind: str,
    members: dict[str, bytes],
    python2_dumps: Callable[[object], bytes],
    write_archive: Write,
) -> None:
    members["test_batch"] = python2_dumps({b"data": np.zeros(shape, kind), b"labels": [1, 2, 3]})
    with pytest.raises(RuntimeError, match=rf"data is {kind} .*; expected uint8 \(3, 3072\)"):
        read_archive(write_archive(members)[0])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_error_names_a_truncated_archive(share: float, members: dict[str, bytes], write_archive: Write) -> None:
    path, _ = write_archive(members)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(RuntimeError, match=r"cifar-10-python.tar.gz: not the CIFAR-10"):
        read_archive(path)
