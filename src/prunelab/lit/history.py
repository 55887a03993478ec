"""Records metrics, sparsity, learning rate and time of each epoch."""

import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim import Optimizer

from prunelab.core.distributed import gather, world_size
from prunelab.measure.compile_time import compile_seconds

log = logging.getLogger(__name__)
METRICS = ("train/loss", "train/acc", "val/loss", "val/acc", "test/loss", "test/acc")
LAYER = "units_removed/net."  # prefix of what Pruning logs for a layer of a Classifier's network


class History(Checkpoint):
    """One record and one log line per epoch; records are kept in checkpoints.

    `epochs` is a list of dictionaries: epoch (from 1), step, losses, accuracies (fractions), sparsity (fraction of
    units removed), the same per layer in `layers`, lr (of the last step), seconds (wall-clock, with evaluation, without
    compilation), cpu_seconds (of all threads of all ranks) and compile_seconds where anything was compiled. Logs
    `train/lr` and `train/seconds`.

    A Checkpoint by type, because Lightning calls those after the module's on_train_epoch_end, when the epoch's
    metrics are complete. Must come before the callback that saves checkpoints, so that each includes its epoch.

    With `adopts`, the epochs of a checkpoint of another job, which has pruned nothing so far, become those of a method
    with units in the layers that `adopts` gives once the network is set up, and are logged again.
    """

    def __init__(self, adopts: Callable[[], Iterable[str]] | None = None) -> None:
        self.adopts = adopts
        self.epochs: list[dict[str, Any]] = []
        self._spent, self._cpu_spent = 0.0, 0.0  # seconds spent on the current epoch before a restart
        self._lr: float | None = None  # of the latest step

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.epochs, self._spent, self._cpu_spent = [], 0.0, 0.0
        self._begin()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._adopt(trainer)
        self._begin()
        self._start -= self._spent
        self._cpu_start -= self._cpu_spent

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin()  # not called if an epoch is resumed in the middle

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        self._lr = self._rate_now(trainer)  # at the end of an epoch it may be that of the next step

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = trainer.callback_metrics
        entry: dict[str, Any] = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        entry |= {name.replace("/", "_"): float(metrics[name]) for name in METRICS}
        entry["sparsity"] = float(metrics.get("sparsity/all", 0.0))
        entry["lr"] = self._rate_now(trainer) if self._lr is None else self._lr
        entry["seconds"] = _clock() - self._start
        entry["cpu_seconds"] = self._cpu()
        if (compiling := compile_seconds() - self._compiled) > 0:
            entry["compile_seconds"] = compiling
        if invalid := [name for name, value in entry.items() if not math.isfinite(value)]:
            name, epoch = invalid[0], entry["epoch"]
            raise ValueError(f"epoch {epoch}: {name} is {entry[name]}, training diverged: lower the learning rate")
        if layers := {name: round(float(v), 6) for name, v in metrics.items() if name.startswith(LAYER)}:
            entry["layers"] = {name.removeprefix(LAYER): removed for name, removed in layers.items()}
        self.epochs.append(entry)
        pl_module.log_dict({f"train/{name}": entry[name] for name in ("lr", "seconds")}, rank_zero_only=True)
        self._begin()
        log.info(
            "epoch %d/%d  loss %.3f  train %.1f %%  val %.1f %%  test %.1f %%  sparsity %.1f %%  %.1f s",
            entry["epoch"],
            trainer.max_epochs,
            entry["train_loss"],
            100 * entry["train_acc"],
            100 * entry["val_acc"],
            100 * entry["test_acc"],
            100 * entry["sparsity"],
            entry["seconds"],
        )

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end = _clock()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Records epoch 0 for a network that is only evaluated, by `trainer.validate`."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            values = {k.replace("/", "_"): float(v) for k, v in trainer.callback_metrics.items() if k in METRICS}
            spent = {"seconds": self._end - self._start, "cpu_seconds": self._cpu()}
            self.epochs = [{"epoch": 0, "step": 0, **values, "sparsity": 0.0, **spent}]

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # For a checkpoint that leaves nothing to train. Loggers are closed after fit, and another event file would
        # purge the first one.
        self._adopt(trainer)

    def _adopt(self, trainer: L.Trainer) -> None:
        if not self.adopts:
            return
        removed = {name.removesuffix(".weight"): 0.0 for name in self.adopts()}
        self.adopts = None
        for entry in self.epochs:
            entry.pop("layers", None)
            values = {name: entry[name.replace("/", "_")] for name in METRICS}
            if removed:
                entry["layers"] = dict(removed)
                values |= {"sparsity/all": 0.0, **{f"{LAYER}{name}": 0.0 for name in removed}}
            values |= {f"train/{name}": entry[name] for name in ("lr", "seconds")}
            for logger in trainer.loggers:
                # The step is that of the epoch's last batch, as where Lightning logs the end of an epoch.
                logger.log_metrics(values | {"epoch": entry["epoch"] - 1}, step=entry["step"] - 1)

    def state_dict(self) -> dict[str, Any]:
        spent = {"spent": _clock() - self._start, "cpu_spent": self._cpu()}
        return {"epochs": self.epochs, "lr": self._lr, **spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs, self._spent = list(state_dict["epochs"]), state_dict["spent"]
        self._lr = state_dict.get("lr")  # unknown to earlier versions
        self._cpu_spent = state_dict.get("cpu_spent", 0.0) / world_size()  # each rank's share; unknown to 0.1.0

    @staticmethod
    def _rate_now(trainer: L.Trainer) -> float:
        return float(trainer.optimizers[0].param_groups[0]["lr"])

    def _cpu(self) -> float:
        return sum(gather(time.process_time() - self._cpu_start))

    def _begin(self) -> None:
        self._start, self._cpu_start, self._compiled = _clock(), time.process_time(), compile_seconds()


def _clock() -> float:
    """Seconds; stands still while networks are compiled."""
    return time.monotonic() - compile_seconds()
