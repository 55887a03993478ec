"""How is a net trained to classify?"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from prunelab.core import distributed

EXAMPLE = torch.zeros(2, 3, 32, 32)
SPLITS = ("train", "val", "test")  # the last two in the order of the data module's evaluation loaders


class EpochMetrics(nn.Module):
    """Mean loss and accuracy of an epoch, summed up on the device: no synchronisation at a step."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.loss = MeanMetric(nan_strategy="disable")
        self.acc = MulticlassAccuracy(num_classes, average="micro", validate_args=False)

    def add(self, logits: Tensor, losses: Tensor, y: Tensor) -> None:
        """`losses` are those of single images (n,), or the mean of batches that are all of one size."""
        self.loss.update(losses)
        self.acc.update(logits, y)

    def sums(self) -> dict[str, Tensor]:
        """Of the epoch so far, which may go on after a restart; the tensors themselves."""
        metrics = {"loss": self.loss, "acc": self.acc}
        return {f"{name}.{key}": getattr(m, key) for name, m in metrics.items() for key in dict(m.metric_state)}

    def restore(self, sums: dict[str, Tensor]) -> None:
        for name, mine in self.sums().items():
            mine.copy_(sums[name])

    def take(self) -> dict[str, Tensor]:
        """The means since the last call."""
        means = {"loss": self.loss.compute(), "acc": self.acc.compute()}
        self.loss.reset()
        self.acc.reset()
        return means


class Classifier(L.LightningModule):
    """Cross-entropy on any net that maps (n, 3, 32, 32) images to (n, classes) logits.

    `optimizer` takes parameters; `schedule` takes the optimizer and a number of steps, those of `epochs` epochs
    or of the whole run, and moves at every step. Where training goes on after it, it does so at the constant
    rate `finetune`, a fraction of the optimizer's own. Logs loss and accuracy of train, val and test once an
    epoch; test selects nothing.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        schedule: Callable[[Optimizer, int], LRScheduler],
        num_classes: int = 10,
        label_smoothing: float = 0.0,
        compiled: bool = False,
        epochs: int | None = None,
        finetune: float = 0.01,
    ) -> None:
        super().__init__()
        self.net = net
        self.optimizer = optimizer
        self.schedule = schedule
        self.label_smoothing = label_smoothing
        self.compiled = compiled
        self.epochs = epochs
        self.finetune = finetune
        self.tallies = nn.ModuleList(EpochMetrics(num_classes) for _ in SPLITS)
        self.example_input_array = EXAMPLE

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["tally"] = distributed.gather({name: t.cpu() for name, t in self._tally("train").sums().items()})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "tally" in checkpoint:  # a file with weights alone has none
            self._tally("train").restore(checkpoint["tally"][distributed.rank()])

    def on_fit_start(self) -> None:
        if self.compiled:
            torch.compiler.reset()  # the jobs of a sweep share one count of compiled nets, which is limited
            self.net.compile()  # in place: names, parameters and checkpoints stay as they are

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        logits = self.net(x)
        loss = self.scoring_loss(logits, y)
        self._tally("train").add(logits.detach(), loss.detach(), y)
        return loss

    def scoring_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """What training minimises, and what criteria differentiate."""
        return F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)

    def on_train_epoch_end(self) -> None:
        self._log("train")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        x, y = batch
        logits = self.net(x)
        self._tally(SPLITS[1 + dataloader_idx]).add(logits, F.cross_entropy(logits, y, reduction="none"), y)

    def on_validation_epoch_end(self) -> None:
        for split in SPLITS[1:]:
            self._log(split)

    def _tally(self, split: str) -> EpochMetrics:
        return cast(EpochMetrics, self.tallies[SPLITS.index(split)])

    def _log(self, split: str) -> None:
        self.log_dict({f"{split}/{name}": value for name, value in self._tally(split).take().items()})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer(self.net.parameters())
        self._steps = int(self.trainer.estimated_stepping_batches)
        if self.epochs is not None:
            self._steps = self._steps * self.epochs // cast(int, self.trainer.max_epochs)
        schedule = self.schedule(optimizer, max(1, self._steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: LRScheduler, metric: Any) -> None:
        if scheduler.last_epoch < self._steps:
            scheduler.step()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        scheduler = cast(LRScheduler, self.lr_schedulers())
        if scheduler.last_epoch >= self._steps:  # and no Rewind, which acts before this, has taken it back
            for group in scheduler.optimizer.param_groups:
                group["lr"] = self.finetune * scheduler.optimizer.defaults["lr"]
