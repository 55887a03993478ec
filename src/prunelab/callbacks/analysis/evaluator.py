"""Accuracy of a network under temporary masks."""

from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from prunelab.callbacks.neighbours import notify
from prunelab.core.network.living_norms import take_notice
from prunelab.core.network.preserve import preserve_state
from prunelab.core.network.snapshot import Snapshot
from prunelab.core.pruner import Pruner
from prunelab.core.types import Masks
from prunelab.measure.accuracy import accuracy
from prunelab.measure.batch_norm import reestimate

HOOKS = ("on_mask_evaluated", "on_tried")  # the second is the name that 0.1.0 had for it
Accuracies = tuple[float, float | None]  # test accuracy; and with re-estimated running statistics


class MaskEvaluator:
    """Accuracy of one network under any masks on all of its test data; restores the network to the bit."""

    def __init__(self, trainer: L.Trainer, module: L.LightningModule, pruner: Pruner, batches: list[Tensor]) -> None:
        self.trainer, self.module, self.pruner, self.batches = trainer, module, pruner, batches
        self.snapshot = Snapshot.capture(module)
        self.test = loader_of_tests(trainer, module, ready=True)
        self.images = 0

    def __call__(self, keep: Masks) -> Accuracies:
        """With everything zeroed that the units False in `keep` cover."""
        params = dict(self.module.named_parameters())
        try:
            with torch.no_grad(), self.trainer.precision_plugin.forward_context():
                masks = self.pruner.granularity.expand(keep)
                for name, mask in masks.items():
                    params[name].mul_(mask.to(params[name].device))
                take_notice(self.module, self.pruner.granularity.norms, masks)
                plain = accuracy(self.module, self._counted())
                if not self.batches:
                    return plain, None
                with preserve_state(self.module):
                    reestimate(self.module, self.batches)
                return plain, accuracy(self.module, self._counted())
        finally:
            self.snapshot.restore_net(self.module)
            take_notice(self.module, self.pruner.granularity.norms, {})
            for hook in HOOKS:
                notify(self.trainer, hook, self.module)

    def _counted(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.images = 0
        for batch in self.test:
            x, y = self.trainer.strategy.batch_to_device(self.trainer.precision_plugin.convert_input(batch))
            self.images += len(y)
            yield x, y


def loader_of_tests(trainer: L.Trainer, module: L.LightningModule, ready: bool) -> Any:
    """The loader of the test data, for many passes. Raises ValueError where there is none, or several.

    Before the data are `ready` it may be None: some data modules make them in `setup("test")`, which is not called
    for those that have them, as it may split their data again.
    """
    for source in (getattr(trainer, "datamodule", None), module):
        if source is not None and is_overridden("test_dataloader", source):
            with torch.random.fork_rng(devices=[]):
                try:
                    loader = source.test_dataloader()
                except Exception:  # whatever is not set up yet
                    if not ready:
                        return None
                    if not isinstance(source, L.LightningDataModule):
                        raise
                    source.setup("test")
                    loader = source.test_dataloader()
            if isinstance(loader, list | tuple | dict):
                raise ValueError("test_dataloader returns several loaders: accuracy is of one, return that")
            if isinstance(loader, Iterator) or sized_len(loader) == 0:
                raise ValueError("test_dataloader is empty or good for one pass: return a DataLoader of images")
            return loader
    raise ValueError("there are no test data: give the data module, or the module, a test_dataloader")
