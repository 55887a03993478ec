"""Which batches does a run see?"""

from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor

from prunelab.data.augment import Augment
from prunelab.data.batches import Batches
from prunelab.data.images import Images, Splits
from prunelab.data.normalise import Normalise
from prunelab.data.sampling import Sampling

EVALUATION_BATCH = 500  # images on each device; no gradients are kept, so more fit than in training


class ImageDataModule(L.LightningDataModule):
    """Batches made whole on the training device; the evaluation loaders are [val, test].

    `batch_size` counts the images of all ranks. Each has its share of every batch, in training and evaluation; what
    is scored on, all ranks have whole. Raises ValueError for batches that cannot be shared evenly, and for
    fewer images to evaluate than ranks.
    """

    def __init__(
        self,
        splits: Splits,
        batch_size: int = 128,
        augment: Augment | None = None,
        seed: int = 0,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.splits = splits
        self.sampling = Sampling(batch_size, shuffle=True, drop_last=True, seed=seed)
        self.augment = augment
        self.normalise = Normalise(splits.mean, splits.std, channels_last)
        self._train: Batches | None = None
        self._place: dict[str, Any] = {}

    def train_dataloader(self) -> Batches:
        self._train = self._batches(self.splits.train, self.sampling, self.augment)
        if self._place:
            self._train.load_state_dict(self._place)
            self._place = {}
        return self._train

    def val_dataloader(self) -> list[Batches]:
        assert self.trainer is not None
        ranks, splits = self.trainer.world_size, (self.splits.val, self.splits.test)
        if (fewest := min(map(len, splits))) < ranks:  # Lightning would wait for those that evaluate nothing
            raise ValueError(f"{fewest} images to evaluate are too few for {ranks} devices: lower trainer.devices")
        return [self._batches(split, Sampling(EVALUATION_BATCH * ranks)) for split in splits]

    def test_dataloader(self) -> Batches:
        return self.val_dataloader()[1]

    def steps_of_an_epoch(self, accumulate: int = 1) -> int:
        """Optimizer steps, each of `accumulate` batches. Raises ValueError where there is not one batch."""
        return -(-self.sampling.count(len(self.splits.train)) // accumulate)

    def scoring_batches(self, count: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
        """`count` batches of different training images, not augmented. Raises ValueError when there are too few."""
        self.check_scoring(count)
        size, device = self.sampling.batch_size, self._device
        chosen = torch.randperm(len(self.splits.train), generator=generator)[: count * size].split(size)
        batches = [self.splits.train.take(positions) for positions in chosen]
        return [(self.normalise(x.to(device)), y.to(device)) for x, y in batches]

    def check_scoring(self, count: int, knob: str = "prune.pruning.pruner.criterion.batches") -> None:
        """Raises ValueError when `count` batches, which `knob` asks for, are more than there are for training."""
        have, size = len(self.splits.train), self.sampling.batch_size
        if count * size > have:
            raise ValueError(
                f"scoring asks for {count} batches of {size} images, there are {have} for training: lower "
                f"{knob}, or optim.batch_size"
            )

    @property
    def _device(self) -> torch.device:
        assert self.trainer is not None
        return self.trainer.strategy.root_device

    def _batches(self, images: Images, sampling: Sampling, augment: Augment | None = None) -> Batches:
        assert self.trainer is not None
        share = replace(sampling, rank=self.trainer.global_rank, world_size=self.trainer.world_size)
        return Batches(images, share, self.normalise, augment, self._device)

    # Lightning keeps a loader's place in the epoch itself, but loses it when the steps of the run are asked for
    # before it is restored, as configure_optimizers must; the data module's own state comes back in time.
    def state_dict(self) -> dict[str, Any]:
        return self._train.state_dict() if self._train else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._place = state_dict
