"""What happened in each epoch?"""

import logging
import math
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

log = logging.getLogger(__name__)
METRICS = ("train/loss", "train/acc", "val/loss", "val/acc", "test/loss", "test/acc")
LAYER = "units_removed/net."  # what Pruning logs of a layer of the net that a Classifier trains


class History(Checkpoint):
    """A record an epoch, kept through checkpoints, and a line of it in the log.

    `epochs` holds dictionaries: epoch (from 1), step, losses, accuracies (fractions), sparsity (fraction of
    units removed), the same of each layer in `layers`, lr, seconds (by the clock, evaluation included). Logs the last
    two, as `train/lr` and `train/seconds`.

    A Checkpoint by type, because Lightning calls those after the module's own on_train_epoch_end: the epoch's
    metrics are complete. It stands before what saves checkpoints, so that each holds its own epoch.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []
        self._spent = 0.0  # seconds of an epoch that began before a restart

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.epochs, self._spent, self._began = [], 0.0, time.monotonic()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = time.monotonic() - self._spent

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = time.monotonic()  # not called where an epoch goes on after a restart

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        now = trainer.callback_metrics
        entry: dict[str, Any] = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        entry |= {name.replace("/", "_"): float(now[name]) for name in METRICS}
        entry["sparsity"] = float(now.get("sparsity/all", 0.0))
        entry["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        entry["seconds"] = time.monotonic() - self._began
        if bad := [name for name, value in entry.items() if not math.isfinite(value)]:
            raise ValueError(
                f"epoch {entry['epoch']}: {bad[0]} is {entry[bad[0]]}, training has diverged: lower the learning rate"
            )
        if layers := {name: round(float(v), 6) for name, v in now.items() if name.startswith(LAYER)}:
            entry["layers"] = {name.removeprefix(LAYER): removed for name, removed in layers.items()}
        self.epochs.append(entry)
        pl_module.log_dict({f"train/{name}": entry[name] for name in ("lr", "seconds")}, rank_zero_only=True)
        self._began = time.monotonic()
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
        self._evaluated = time.monotonic()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Of a net that is not trained, but looked at by `trainer.validate`: epoch 0."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            now = {name: float(value) for name, value in trainer.callback_metrics.items() if name in METRICS}
            named = {name.replace("/", "_"): value for name, value in now.items()}
            self.epochs = [{"epoch": 0, "step": 0, **named, "sparsity": 0.0, "seconds": self._evaluated - self._began}]

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "spent": time.monotonic() - self._began}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs, self._spent = list(state_dict["epochs"]), state_dict["spent"]
