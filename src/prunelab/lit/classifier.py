"""The LightningModule that trains a classifier."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self, cast

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
from prunelab.core.files import torch_file
from prunelab.lit import saved_network
from prunelab.lit.device import fuse
from prunelab.lit.distillation import Distillation
from prunelab.measure.compile_time import drop_graphs

EXAMPLE = torch.zeros(2, 3, 32, 32)
SPLITS = ("train", "val", "test")  # the last two in the order of the data module's evaluation loaders


class EpochMetrics(nn.Module):
    """Mean loss and accuracy of an epoch, accumulated on the device without a synchronisation per step."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.loss = MeanMetric(nan_strategy="disable")
        self.acc = MulticlassAccuracy(num_classes, average="micro", validate_args=False)

    def add(self, logits: Tensor, losses: Tensor, y: Tensor) -> None:
        """`losses` are those of single images (n,), or the mean over a batch if all batches have the same size."""
        self.loss.update(losses)
        self.acc.update(logits, y)

    def sums(self) -> dict[str, Tensor]:
        """The running sums of this epoch, as references: a resumed epoch writes into them."""
        metrics = {"loss": self.loss, "acc": self.acc}
        return {f"{name}.{key}": getattr(m, key) for name, m in metrics.items() for key in dict(m.metric_state)}

    def restore(self, sums: dict[str, Tensor]) -> None:
        for name, tensor in self.sums().items():
            tensor.copy_(sums[name])

    def take(self) -> dict[str, Tensor]:
        """The means since the last call; resets the sums."""
        means = {"loss": self.loss.compute(), "acc": self.acc.compute()}
        self.loss.reset()
        self.acc.reset()
        return means


def not_saved(*_: Any) -> Any:
    """In place of an optimizer and its schedule."""
    raise ValueError("training needs an optimizer and a schedule, which no checkpoint holds: give both")


class Classifier(L.LightningModule):
    """Cross-entropy on any network that maps images, such as `example`, (2, 3, h, w), to (n, classes) logits.

    `optimizer` takes parameters; `schedule` takes the optimizer and a number of steps, those of `epochs` epochs
    or of the whole run, and is updated at every step. Training beyond it uses a constant learning rate, the fraction
    `finetune` of the optimizer's own. Without them it can be evaluated, not trained. `distillation` is of training
    alone; criteria see cross-entropy. Logs loss and accuracy of train, val and test once per epoch; test selects
    nothing.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[Iterable[Tensor]], Optimizer] = not_saved,
        schedule: Callable[[Optimizer, int], LRScheduler] = not_saved,
        num_classes: int = 10,
        label_smoothing: float = 0.0,
        compiled: bool = False,
        epochs: int | None = None,
        finetune: float = 0.01,
        distillation: Distillation | None = None,
        example: Tensor = EXAMPLE,
    ) -> None:
        super().__init__()
        self.save_hyperparameters("num_classes", "label_smoothing", "epochs", "finetune", "example", logger=False)
        self.net = net
        self.optimizer = optimizer
        self.schedule = schedule
        self.label_smoothing = label_smoothing
        self.compiled = compiled
        self.epochs = epochs
        self.finetune = finetune
        self.distillation = distillation
        self.epoch_metrics = nn.ModuleList(EpochMetrics(num_classes) for _ in SPLITS)
        self.example_input_array = example

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: str | torch.device = "cpu",
        net: nn.Module | None = None,
        **arguments: Any,
    ) -> Self:
        """The Classifier in a checkpoint of Lightning, with its network as it was saved: masked, or small.

        `net`, new and unpruned, is needed for a network that is not one of prunelab's. `arguments` are other ones of
        the constructor; optimizer and schedule are in no checkpoint. As ever in Lightning it is in training mode.
        Nothing in the file is unpickled. Raises ValueError, with the path, for a file that is damaged, no checkpoint of
        a Classifier, or does not fit.
        """
        path = Path(checkpoint_path)
        try:
            saved = torch_file.read(path)
        except OSError:
            raise
        except Exception as error:  # whatever a damaged file provokes
            raise ValueError(f"{path}: {torch_file.fault(path, error)}") from None
        if not isinstance(saved, dict) or "pytorch-lightning_version" not in saved:
            raise ValueError(f"{path} is no checkpoint of Lightning: load its weights with load_state_dict")
        try:
            arguments = {**saved.get(cls.CHECKPOINT_HYPER_PARAMS_KEY, {}), **arguments}
            net = saved_network.rebuild(saved, arguments.get("num_classes", 10), net)
            return cls(net, **arguments).to(map_location)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: it is damaged, or no checkpoint of a Classifier: {error}") from error

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        sums = {name: tensor.cpu() for name, tensor in self._metrics("train").sums().items()}
        checkpoint["tally"] = distributed.gather(sums)  # the key that 0.1.0 wrote

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "tally" in checkpoint:  # a file with only weights has none
            self._metrics("train").restore(checkpoint["tally"][distributed.rank()])

    def on_fit_start(self) -> None:
        if self.distillation:
            self.distillation.teacher.to(self.device)
        if self.compiled:
            drop_graphs()  # the jobs of a sweep share torch's limit on compiled graphs
            self.net.compile()  # in place: names, parameters and checkpoints do not change

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":  # which Lightning sets some fifty times a step; a Module looks for a parameter
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        logits = self.net(x)
        loss = self.scoring_loss(logits, y)
        if self.distillation:
            loss = self.distillation(x, logits, loss)
        self._metrics("train").add(logits.detach(), loss.detach(), y)
        return loss

    def scoring_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """The training loss without a teacher's, which criteria differentiate too."""
        return F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)

    def on_train_epoch_end(self) -> None:
        self._log("train")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        x, y = batch
        with torch.compiler.set_stance("force_eager"):  # else batches of each size are compiled anew
            logits = self.net(x)
        self._metrics(SPLITS[1 + dataloader_idx]).add(logits, F.cross_entropy(logits, y, reduction="none"), y)

    def on_validation_epoch_end(self) -> None:
        for split in SPLITS[1:]:
            self._log(split)

    def _metrics(self, split: str) -> EpochMetrics:
        return cast(EpochMetrics, self.epoch_metrics[SPLITS.index(split)])

    def _log(self, split: str) -> None:
        self.log_dict({f"{split}/{name}": value for name, value in self._metrics(split).take().items()})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer(self.net.parameters())
        fuse(optimizer)
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
        if scheduler.last_epoch >= self._steps:  # and no Rewind, which runs before this hook, has set it back
            for group in scheduler.optimizer.param_groups:
                group["lr"] = self.finetune * scheduler.optimizer.defaults["lr"]
