"""What is known of a data set before it is split?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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


def hold_out(y: Tensor, classes: Sequence[str], val: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ascending rows (n - val,) to train on and (val,) to validate on, equally many of each class.

    Where `val` is no multiple of the number of classes, some classes, drawn at random, give one more.
    `y` is int64 (n,). Raises ValueError if `val` is not in [1, n) or would leave a class nothing to train on.
    """
    if not 1 <= val < len(y):
        raise ValueError(f"data.val={val}: expected a number of images in [1, {len(y)}), the images in train")
    held = torch.zeros(len(y), dtype=torch.bool)
    for label, count in enumerate(shares(val, len(classes), generator)):
        own = torch.nonzero(y == label).flatten()
        if count >= len(own):
            raise ValueError(
                f"data.val={val}: takes {count} of the {len(own)} train images of class "
                f"{classes[label]!r} and leaves none to train on; lower data.val or add images"
            )
        held[own[torch.randperm(len(own), generator=generator)[:count]]] = True
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


def shares(total: int, parts: int, generator: torch.Generator) -> list[int]:
    """`total` in `parts` integers that differ by one at most."""
    extra = torch.randperm(parts, generator=generator) < total % parts
    return (total // parts + extra.long()).tolist()
