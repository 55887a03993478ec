"""A data loader that assembles whole batches on the device."""

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

    An epoch fixes the order and the augmentation. `set_epoch` chooses it; a pass that begins without it, after a whole
    one, is the next epoch. The images are copied to a GPU once, at the first batch; on a CPU they are read in place.
    There are no workers.
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
        self._epoch, self._position, self._start = 0, 0, 0
        self._passed = False  # whether the epoch was yielded whole, and nothing has set one since
        self._plan: tuple[int, Tensor, Tensor | None] | None = None

    def __len__(self) -> int:
        return self._length

    @property
    def sampler(self) -> Batches:
        """This loader itself: Lightning announces each epoch with `loader.sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Start `epoch`; a position within it that `load_state_dict` restored is kept."""
        self._passed = False
        if epoch != self._epoch:
            self._epoch, self._position, self._start = epoch, 0, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # A generator runs nothing before the first `next`, so `set_epoch` may come after `iter`.
        if self._passed:
            self.set_epoch(self._epoch + 1)
        start, self._start = self._start, 0
        for i in range(start, len(self)):
            self._position = i + 1
            yield self.batch(i)
        self._passed = True

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        """Batch `i` of the current epoch, made without the ones before it; the position does not change."""
        order, parameters = self._epoch_plan()
        positions = self.sampling.positions(i, len(self.images))
        x, y = self._local.take(order[positions])
        if self.augment is not None and parameters is not None:
            x = self.augment.apply(x, parameters[positions])
        return self.normalise(x), y

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its batches were yielded; 0 of the next one after a whole pass."""
        return {"epoch": self._epoch + self._passed, "position": self._position % max(1, len(self))}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration continues from that position; later ones start at the first batch."""
        self._epoch, self._position = state["epoch"], state["position"]
        self._start, self._passed = self._position, False

    @cached_property
    def _local(self) -> Images:
        return self.images.to(self.device)

    def _epoch_plan(self) -> tuple[Tensor, Tensor | None]:
        """The image at each position of the epoch (n,), and its augmentation parameters (n, k)."""
        if self._plan is None or self._plan[0] != self._epoch:
            n, generator = len(self.images), self.sampling.generator(self._epoch)
            order, parameters = self.sampling.order(n, generator).to(self.device), None
            if self.augment is not None:
                h, w = self.images.pool.shape[2:]
                parameters = self.augment.draw(n, (h, w), generator).to(self.device)
            self._plan = (self._epoch, order, parameters)
        return self._plan[1:]
