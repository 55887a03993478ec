"""Which batches does a run see?"""

from typing import Any

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
        self._train: Batches | None = None
        self._place: dict[str, Any] = {}

    def train_dataloader(self) -> Batches:
        self._train = self._batches(self.splits.train, self.sampling, self.augment)
        if self._place:
            self._train.load_state_dict(self._place)
            self._place = {}
        return self._train

    def val_dataloader(self) -> list[Batches]:
        return [self._batches(split, Sampling(EVALUATION_BATCH)) for split in (self.splits.val, self.splits.test)]

    def _batches(self, images: Images, sampling: Sampling, augment: Augment | None = None) -> Batches:
        assert self.trainer is not None
        return Batches(images, sampling, self.normalise, augment, self.trainer.strategy.root_device)

    # Lightning keeps a loader's place in the epoch itself, but loses it when the steps of the run are asked for
    # before it is restored, as configure_optimizers must; the data module's own state comes back in time.
    def state_dict(self) -> dict[str, Any]:
        return self._train.state_dict() if self._train else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._place = state_dict
