"""Thins out single weights while a pruned network retrains: L1 by a soft threshold, and a hard one at the end."""

import math
from dataclasses import replace
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.hooks import RemovableHandle

from prunelab.callbacks.averages import refuse_averages
from prunelab.callbacks.neighbours import check_last, only
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.scoring import progress, steps_done
from prunelab.callbacks.shrink import Shrink
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.pruner import Pruner
from prunelab.core.time import Progress


class SoftThreshold(L.Callback):
    """After the last pruning, pulls every prunable weight towards 0, and ends with the small ones at exactly 0.

    Each optimizer step is followed by the proximal step of l1 * sum |w|: w becomes sign(w) max(|w| - lr * l1, 0), with
    the learning rate of that step, so a weight that nothing else moves loses the sum of lr * l1. A weight at 0 may
    come back, until the last step of the run also sets weights below `threshold` to 0, before anything is validated
    or saved. Does nothing with a rate of 0, or where both numbers are 0.

    Logs `weights/zero` each epoch of the retraining: the fraction of prunable weights that are exactly 0.
    Listed after the Pruning and Shrink, whose small network it works on. Raises ValueError for a number that is
    negative or not finite; before training for another order, no Pruning, several optimizers, and averaged copies of
    the network.
    """

    def __init__(self, l1: float = 0.0, threshold: float = 0.0) -> None:
        for name, value in {"l1": l1, "threshold": threshold}.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}={value}: expected a number >= 0")
        self.l1, self.threshold = l1, threshold
        self._weights: dict[str, nn.Parameter] = {}  # that it pulls at, since the last pruning
        self._hook: RemovableHandle | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()
        if not (self.l1 or self.threshold):
            return
        pruner = self._pruner(trainer)
        refuse_averages(trainer, self, "whose copy has other zeros")
        if len(trainer.optimizers) != 1:
            raise ValueError(f"SoftThreshold works with one optimizer, there are {len(trainer.optimizers)}")
        self._hook = trainer.optimizers[0].register_step_post_hook(lambda optimizer, *_: self._pull(optimizer))
        run = progress(trainer, 0)
        if 0 < (pruner.schedule(replace(run, step=run.total)) or 0.0) <= pruner.rate:  # resumed in the retraining
            self._weights = prunable_weights(pl_module)

    def _pruner(self, trainer: L.Trainer) -> Pruner:
        pruning = only(trainer, Pruning, beside=self)
        if pruning is None:
            raise ValueError("SoftThreshold works beside one Pruning callback, there is none: add it")
        check_last(trainer, self, Pruning, Shrink, why="whose network it thins out")
        return pruning.pruner

    def on_pruned(self, trainer: L.Trainer, pl_module: L.LightningModule, pruner: Pruner, run: Progress) -> None:
        """Called by Pruning when it has changed the masks, before the next step."""
        if self._hook is not None and pruner.schedule.is_last(run):
            self._weights = prunable_weights(pl_module)

    @torch.no_grad()
    def _pull(self, optimizer: torch.optim.Optimizer) -> None:
        rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
        for weight in self._weights.values():
            weight.copy_(F.softshrink(weight, rates[id(weight)] * self.l1))

    @torch.no_grad()
    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if self._weights and (done := steps_done(trainer)) >= progress(trainer, done).total:
            for weight in self._weights.values():
                weight.masked_fill_(weight.abs() < self.threshold, 0)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._weights:
            zeros = sum(int((weight == 0).sum()) for weight in self._weights.values())
            total = sum(weight.numel() for weight in self._weights.values())
            pl_module.log("weights/zero", zeros / total, rank_zero_only=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        self._weights = {}
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
