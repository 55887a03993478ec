"""How does an epoch become batches, made whole on the device?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from prunelab.data.augment import Augment
from prunelab.data.images import Images
from prunelab.data.normalise import Normalise
from prunelab.data.sampling import Sampling


class Batches:
    """Iterable over (x, y): float32 (b, 3, h, w) normalised and int64 (b,), both on `device`.

    Call `set_epoch` before each epoch: it alone changes the order and the augmentation. The images move to a
    GPU once, at the first batch; on a CPU they are read where they lie. There are no workers.
    """

    batch_sampler = None  # Lightning looks for it beside `sampler`

    def __init__(
        self,
        images: Images,
        sampling: Sampling,
        normalise: Normalise,
        augment: Augment | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.images, self.sampling, self.normalise, self.augment = images, sampling, normalise, augment
        self.device = torch.device(device)
        self._length = sampling.count(len(images))
        self._epoch, self._given, self._start = 0, 0, 0
        self._planned: tuple[int, Tensor, Tensor | None] | None = None

    def __len__(self) -> int:
        return self._length

    @property
    def sampler(self) -> Batches:
        """Itself: Lightning announces each epoch by `loader.sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Start that epoch; a position inside of it that `load_state_dict` brought is kept."""
        if epoch != self._epoch:
            self._epoch, self._given, self._start = epoch, 0, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # A generator: nothing below runs before the first `next`, so `set_epoch` may come after `iter`.
        start, self._start = self._start, 0
        for i in range(start, len(self)):
            self._given = i + 1
            yield self.batch(i)

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        """Batch `i` of the current epoch, made without those before it; the position stays as it is."""
        order, decisions = self._plan()
        at = self.sampling.positions(i, len(self.images))
        x, y = self._local.take(order[at])
        if self.augment is not None and decisions is not None:
            x = self.augment.apply(x, decisions[at])
        return self.normalise(x), y

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its batches were given out; a finished epoch counts as none."""
        return {"epoch": self._epoch, "position": self._given % max(1, len(self))}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration goes on from there; later ones start at the first batch."""
        self._epoch, self._given = state["epoch"], state["position"]
        self._start = self._given

    @cached_property
    def _local(self) -> Images:
        return self.images.to(self.device)

    def _plan(self) -> tuple[Tensor, Tensor | None]:
        """The image at each position of the epoch (n,), and its augmentation (n, k)."""
        if self._planned is None or self._planned[0] != self._epoch:
            n, generator = len(self.images), self.sampling.generator(self._epoch)
            order, decisions = self.sampling.order(n, generator).to(self.device), None
            if self.augment is not None:
                h, w = self.images.pool.shape[2:]
                decisions = self.augment.draw(n, (h, w), generator).to(self.device)
            self._planned = (self._epoch, order, decisions)
        return self._planned[1:]
