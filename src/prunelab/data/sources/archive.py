"""Reads the CIFAR-10 archive without running code from it.

Loading a pickle can run arbitrary code. The batches need only three names from NumPy, so the unpickler resolves
those three and imports nothing. Format: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunelab.data.dataset import Dataset

TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
MEMBERS = (*TRAIN, "test_batch", "batches.meta")
RECONSTRUCT = np.empty(0).__reduce__()[0]
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,  # as in the official archive
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArrayUnpickler(pickle.Unpickler):
    """Loads plain values and NumPy arrays; raises UnpicklingError for any other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name}: not part of a CIFAR-10 batch, refused")
        return ALLOWED[module, name]


def read_archive(path: Path) -> Dataset:
    """All images and class names; raises RuntimeError if the archive is damaged or another file."""
    try:
        batches = unpickle_members(path)
        train = [images(batches[name]) for name in TRAIN]
        names = tuple(name.decode() for name in batches["batches.meta"][b"label_names"])
        x, y = (torch.cat(parts) for parts in zip(*train, strict=True))
        return Dataset.from_tensors((x, y), images(batches["test_batch"]), names)
    except (tarfile.TarError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        remedy = "remove it to download it again"
        raise RuntimeError(f"{path}: not the CIFAR-10 python archive ({error!r}); {remedy}") from error


def unpickle_members(path: Path) -> dict[str, Any]:
    batches = {}
    with tarfile.open(path, "r:gz") as tar:
        for member in tar:
            name = Path(member.name).name
            if name in MEMBERS and (file := tar.extractfile(member)) is not None:
                batches[name] = ArrayUnpickler(io.BytesIO(file.read()), encoding="bytes").load()
    return batches


def images(batch: dict[bytes, Any]) -> tuple[Tensor, Tensor]:
    """uint8 (n, 3, 32, 32) and int64 (n,) from rows of 3072 bytes: the red plane, then green, then blue."""
    data, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], dtype=np.int64)
    if data.dtype != np.uint8 or data.shape != (len(labels), 3072):
        raise ValueError(f"data is {data.dtype} {data.shape}; expected uint8 ({len(labels)}, 3072)")
    return torch.from_numpy(data.reshape(-1, 3, 32, 32)), torch.from_numpy(labels)
