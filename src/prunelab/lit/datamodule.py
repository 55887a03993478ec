"""The LightningDataModule for images that are in memory."""

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

EVALUATION_BATCH = {"cpu": 125, "cuda": 1000}  # images per device, by its type; docs/devices.md says why
OTHER_BATCH = 500


class ImageDataModule(L.LightningDataModule):
    """Batches assembled on the training device; the evaluation loaders are [val, test].

    `batch_size` counts the images of all ranks. Each rank takes its share of every batch, in training and evaluation,
    but all ranks score on the same whole batches. Without a Trainer batches are on the CPU, and those of a job with
    this seed: each pass over a training loader is the next epoch. Raises ValueError for batches that cannot be shared
    evenly, and for fewer evaluation images than ranks.
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
        self._position: dict[str, Any] = {}

    def train_dataloader(self) -> Batches:
        self._train = self._batches(self.splits.train, self.sampling, self.augment)
        if self._position:
            self._train.load_state_dict(self._position)
            self._position = {}
        return self._train

    def val_dataloader(self) -> list[Batches]:
        ranks, splits = self.trainer.world_size if self.trainer else 1, (self.splits.val, self.splits.test)
        if (fewest := min(map(len, splits))) < ranks:  # Lightning would hang on ranks that evaluate nothing
            raise ValueError(f"{fewest} evaluation images are too few for {ranks} devices: lower trainer.devices")
        size = EVALUATION_BATCH.get(self._device.type, OTHER_BATCH)
        return [self._batches(split, Sampling(size * ranks)) for split in splits]

    def test_dataloader(self) -> Batches:
        return self.val_dataloader()[1]

    def steps_per_epoch(self, accumulate: int = 1) -> int:
        """Optimizer steps of `accumulate` batches each. Raises ValueError if there is not a single batch."""
        return -(-self.sampling.count(len(self.splits.train)) // accumulate)

    def scoring_batches(self, count: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
        """`count` batches of distinct training images, not augmented. Raises ValueError if there are too few."""
        return self._draw(count, generator, None)

    def statistics_batches(self, count: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
        """The same images, augmented as in training, whose averages running statistics are."""
        return self._draw(count, generator, self.augment)

    def check_scoring(self, count: int, option: str = "prune.pruning.pruner.criterion.batches") -> None:
        """Raises ValueError if there are fewer than `count` training batches; `option` is what sets the count."""
        images, size = len(self.splits.train), self.sampling.batch_size
        if count * size > images:
            raise ValueError(
                f"scoring asks for {count} batches of {size} images, there are {images} for training: lower "
                f"{option} or optim.batch_size"
            )

    def _draw(self, count: int, generator: torch.Generator, augment: Augment | None) -> list[tuple[Tensor, Tensor]]:
        self.check_scoring(count)
        size, device = self.sampling.batch_size, self._device
        batches = []
        for positions in torch.randperm(len(self.splits.train), generator=generator)[: count * size].split(size):
            x, y = (part.to(device) for part in self.splits.train.take(positions))
            if augment:
                x = augment.apply(x, augment.draw(len(x), (x.shape[2], x.shape[3]), generator).to(device))
            batches.append((self.normalise(x), y))
        return batches

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def _batches(self, images: Images, sampling: Sampling, augment: Augment | None = None) -> Batches:
        if self.trainer:
            sampling = replace(sampling, rank=self.trainer.global_rank, world_size=self.trainer.world_size)
        return Batches(images, sampling, self.normalise, augment, self._device)

    # Lightning keeps the loader's position in the epoch itself, but loses it if the total steps are computed before it
    # is restored, as configure_optimizers must; the data module's own state is restored in time.
    def state_dict(self) -> dict[str, Any]:
        return self._train.state_dict() if self._train else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._position = state_dict
