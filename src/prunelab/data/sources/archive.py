"""Reads the CIFAR-10 archive with torchvision.

Loading a pickle can run code. torchvision loads only files whose MD5 is the published one, as a constant in its code,
so whatever the archive is, nothing else is unpickled. Format: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from prunelab.data.dataset import Dataset

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10


def read_archive(path: Path) -> Dataset:
    """All images and class names. Raises RuntimeError for any file in the archive but the published ones."""
    from torchvision.datasets import CIFAR10, utils  # only here: it takes seconds, and the cache does without

    with tempfile.TemporaryDirectory() as folder:  # 180 MB
        utils.extract_archive(path, folder)
        train, test = (CIFAR10(folder, train=part) for part in (True, False))
    return Dataset.from_tensors(_tensors(train), _tensors(test), tuple(train.classes))


def _tensors(part: CIFAR10) -> tuple[Tensor, Tensor]:
    """uint8 (n, 3, 32, 32) and int64 (n,)."""
    return torch.from_numpy(part.data.transpose(0, 3, 1, 2)).contiguous(), torch.tensor(part.targets)
