"""Which batches does a run see?"""

import lightning as L

from prunelab.data.augment import Augment
from prunelab.data.batches import Batches
from prunelab.data.images import Images, Splits
from prunelab.data.normalise import Normalise
from prunelab.data.sampling import Sampling

EVALUATION_BATCH = 500  # images; no gradients are kept, so more fit than in training


class ImageBatches(L.LightningDataModule):
    """Batches made whole on the training device; the evaluation loaders are [val, test]."""

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

    def train_dataloader(self) -> Batches:
        return self._batches(self.splits.train, self.sampling, self.augment)

    def val_dataloader(self) -> list[Batches]:
        return [self._batches(split, Sampling(EVALUATION_BATCH)) for split in (self.splits.val, self.splits.test)]

    def _batches(self, images: Images, sampling: Sampling, augment: Augment | None = None) -> Batches:
        assert self.trainer is not None
        return Batches(images, sampling, self.normalise, augment, self.trainer.strategy.root_device)
