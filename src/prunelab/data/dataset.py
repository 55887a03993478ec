"""What is known of a data set before it is split?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from prunelab.data.holdout import hold_out
from prunelab.data.images import RGB, Images, Splits


@dataclass(frozen=True, eq=False)
class Decoded:
    """All pixels and labels: `x_*` uint8 (n, 3, h, w), `y_*` int64 (n,); the rest as in `Splits`."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]
    mean: RGB
    std: RGB
    fingerprint: str

    @classmethod
    def measure(cls, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: tuple[str, ...]) -> Decoded:
        """From (x, y) of either split, reading all of it: 1 s for the 184 MB of CIFAR-10."""
        mean, std = moments(train[0])
        return cls(*train, *test, classes, mean, std, fingerprint(*train, *test))

    def split(self, val: int, seed: int) -> Splits:
        """Hold `val` train images out, by `seed`; raises as `hold_out` does."""
        rows = hold_out(self.y_train, self.classes, val, torch.Generator().manual_seed(seed))
        train, held = (Images(self.x_train, self.y_train, r) for r in rows)
        test = Images(self.x_test, self.y_test)
        return Splits(train, held, test, self.classes, self.mean, self.std, self.fingerprint)


def moments(x: Tensor) -> tuple[RGB, RGB]:
    """Mean and standard deviation per channel, pixels in [0, 1], of uint8 (n, 3, h, w)."""
    # From the 256 counts: exact, and no float copy of the images, which would take four times their memory.
    level = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([torch.bincount(plane.flatten(), minlength=256) for plane in x.unbind(1)])
    share = counts.double() / x[:, 0].numel()  # (3, 256)
    mean = share @ level
    std = ((share @ level**2) - mean**2).sqrt()
    return (mean[0].item(), mean[1].item(), mean[2].item()), (std[0].item(), std[1].item(), std[2].item())


def fingerprint(*tensors: Tensor) -> str:
    """16 hex digits of the SHA-256 of the tensors' shapes and bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(repr(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:16]
