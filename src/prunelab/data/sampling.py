"""The order of images in an epoch, and each rank's share of them.

A function of (seed, epoch) alone: an epoch can resume in the middle, and ranks can share it without communicating.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """`batch_size` counts the images of all ranks; rank r takes those at r, r + world_size, ... of each batch.

    With `drop_last`, as in training, images that do not fill a whole batch are left out of that epoch.
    """

    batch_size: int
    shuffle: bool = False
    drop_last: bool = False
    seed: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank={self.rank}: expected a number in [0, world_size={self.world_size})")
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size}: expected 1 or more")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed}: expected 0 or more")
        # Gradients are averaged over ranks: unequal shares would weight some images more than others.
        if self.drop_last and self.batch_size % self.world_size:
            raise ValueError(f"batch_size={self.batch_size}: expected a multiple of world_size={self.world_size}")

    def count(self, n: int) -> int:
        """Batches of this rank for n images; raises ValueError if training would have none."""
        if self.drop_last and n < self.batch_size:
            raise ValueError(f"batch_size={self.batch_size}: more than the {n} images; lower it")
        whole, rest = divmod(n, self.batch_size)
        # A last batch smaller than the number of ranks leaves some of them without an image.
        return whole + (not self.drop_last and rest > self.rank)

    def positions(self, batch: int, n: int) -> slice:
        """This rank's part of batch number `batch`, as positions in the epoch's order of n images."""
        start = batch * self.batch_size
        return slice(start + self.rank, min(start + self.batch_size, n), self.world_size)

    def generator(self, epoch: int) -> torch.Generator:
        """Source of all random numbers of that epoch."""
        # Hashed, because torch keeps only 32 bits of a seed: `seed << 32 | epoch` would drop the seed.
        mixed = np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0]
        return torch.Generator().manual_seed(int(mixed))

    def order(self, n: int, generator: torch.Generator) -> Tensor:
        """int64 (n,): every image once."""
        return torch.randperm(n, generator=generator) if self.shuffle else torch.arange(n)
