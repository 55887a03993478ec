"""A data set in memory, and its split into training and validation images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunelab.data.copies import numbered, warn_of_copies
from prunelab.data.images import RGB, Images, Splits

CHANNELS = ("red", "green", "blue")
LEAST = 1e-7  # standard deviation: a single pixel of 10^9 that differs by 1/255 leaves more, rounding alone leaves less


@dataclass(frozen=True, eq=False)
class Dataset:
    """All pixels and labels: `x_*` uint8 (n, 3, h, w), `y_*` int64 (n,); the rest as in `Splits`.

    `numbers` int64 (train + test,) are equal where images are, pixel for pixel.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    numbers: Tensor
    classes: tuple[str, ...]
    mean: RGB
    std: RGB
    fingerprint: str

    def __post_init__(self) -> None:
        """Raises ValueError for a channel that has the same value everywhere, which nothing can normalise."""
        if flat := [name for name, std in zip(CHANNELS, self.std, strict=True) if not std > LEAST]:
            raise ValueError(
                f"std={self.std}: all train images have the same {flat[0]} in every pixel; give other images"
            )

    @classmethod
    def from_tensors(
        cls, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: tuple[str, ...]
    ) -> Dataset:
        """From the (x, y) of both splits; moments, numbers and the fingerprint of CIFAR-10's 184 MB take 1.3 s."""
        mean, std = moments(train[0])
        numbers = numbered(train[0], test[0])
        return cls(*train, *test, numbers, classes, mean, std, fingerprint(*train, *test))

    def split(self, val: int, seed: int) -> Splits:
        """Hold out `val` training images, chosen by `seed`; raises as `hold_out` does, logs copies across splits."""
        rows, others = hold_out(self.y_train, self.classes, val, torch.Generator().manual_seed(seed))
        warn_of_copies(self.numbers[rows], self.numbers[others], self.numbers[len(self.y_train) :])
        train, held_out = (Images(self.x_train, self.y_train, chosen) for chosen in (rows, others))
        test = Images(self.x_test, self.y_test)
        return Splits(train, held_out, test, self.classes, self.mean, self.std, self._split_fingerprint())

    def _split_fingerprint(self) -> str:
        """Of unequal classes another than up to version 0.1.0, which held out as many images of each."""
        if len(set(torch.bincount(self.y_train).tolist())) == 1:
            return self.fingerprint
        return hashlib.sha256(f"{self.fingerprint} in proportion".encode()).hexdigest()[:16]


def moments(x: Tensor) -> tuple[RGB, RGB]:
    """Mean and standard deviation per channel of uint8 images (n, 3, h, w), with pixels in [0, 1]."""
    # From the counts of the 256 values: exact, without a float copy of the images, which would take 4x the memory.
    level = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([torch.bincount(plane.flatten(), minlength=256) for plane in x.unbind(1)])
    share = counts.double() / x[:, 0].numel()  # (3, 256)
    mean = share @ level
    std = ((share @ level**2) - mean**2).sqrt()
    return (mean[0].item(), mean[1].item(), mean[2].item()), (std[0].item(), std[1].item(), std[2].item())


def fingerprint(*tensors: Tensor) -> str:
    """The first 16 hex digits of the SHA-256 of the tensors' shapes and bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(repr(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:16]


def hold_out(y: Tensor, classes: Sequence[str], val: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sorted row indices: (n - val,) for training and (val,) for validation, in which classes have their shares.

    `y` is int64 (n,). Raises ValueError if `val` is not in [1, n) or would leave a class without training images.
    """
    if not isinstance(val, int) or not 1 <= val < len(y):
        raise ValueError(f"data.val={val}: expected a number of images in [1, {len(y)}), the size of train")
    held_out = torch.zeros(len(y), dtype=torch.bool)
    sizes = torch.bincount(y, minlength=len(classes)).tolist()
    for label, count in enumerate(shares(val, sizes, generator)):
        members = torch.nonzero(y == label).flatten()
        if count >= len(members):
            raise ValueError(
                f"data.val={val}: takes {count} of the {len(members)} train images of class "
                f"{classes[label]!r} and leaves none for training; lower data.val or add images"
            )
        held_out[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return torch.nonzero(~held_out).flatten(), torch.nonzero(held_out).flatten()


def shares(total: int, sizes: Sequence[int], generator: torch.Generator) -> list[int]:
    """`total` in proportion to `sizes`, by largest remainders; of equal ones those that are drawn get one more.

    None reaches its size while another is left to get one more.
    """
    whole, rest = zip(*(divmod(total * size, sum(sizes)) for size in sizes), strict=True)
    drawn = torch.randperm(len(sizes), generator=generator).tolist()
    order, counts = sorted(range(len(sizes)), key=lambda i: (-rest[i], drawn[i])), list(whole)
    while left := total - sum(counts):
        more = [i for i in order if counts[i] + 1 < sizes[i]] or [i for i in order if counts[i] < sizes[i]]
        for i in more[:left]:
            counts[i] += 1
    return counts
