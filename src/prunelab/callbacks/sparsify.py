"""Zeros in the weights of a pruned network: L1 while it trains again, a threshold at its end (Collins & Kohli 2014)."""

import logging
from dataclasses import replace
from math import isfinite
from typing import Any

import lightning as L
import torch
from torch import nn

from prunelab.callbacks.after_step import AfterStep
from prunelab.callbacks.averages import refuse_averages
from prunelab.callbacks.binarize import Binarize
from prunelab.callbacks.neighbours import of_kind, only
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.scaled_gradients import check_unscaled
from prunelab.callbacks.scoring import progress, steps_done
from prunelab.core.network.masked_parameters import MaskedParameters
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.numbers.soft_threshold import soft_threshold_
from prunelab.core.pruner import Pruner

log = logging.getLogger(__name__)


class Sparsify(L.Callback):
    """After the last pruning adds `l1` * sum |w| to the loss; after the last step sets each |w| < `threshold` to 0.

    w are the prunable weights that the optimizer has but those that the Pruning callback skips, also of a network that
    Shrink has made small.
    The L1 term is a proximal step behind the optimizer's: each |w| falls by lr * l1 with the plain learning rate of
    that step, whatever the optimizer, and stops at exactly 0, from where it may come back. The threshold comes before
    the last evaluation and checkpoint, which have the zeros; so has the optimizer's state. A layer that is all 0 then
    is named in the log. With a rate of 0 nothing is done; where all is pruned before the first step, it acts from there
    on. It has no state: the masks say when the last pruning was, the step when training ends.

    Logs `weights/zero` each epoch from the last pruning on: the fraction of these weights that are exactly 0.
    Raises ValueError for a negative number; before training without a Pruning callback, beside averaged weights (EMA),
    Binarize and a fused optimizer under 16-mixed, and for an L1 term without a learning rate or on weights of 16 bits.
    Warns where training ends before its last step, as then nothing meets the threshold.
    """

    def __init__(self, l1: float = 0.0, threshold: float = 0.0) -> None:
        for name, value in {"l1": l1, "threshold": threshold}.items():
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"{name}={value}: expected a number >= 0; 0 leaves it out")
        self.l1, self.threshold = float(l1), float(threshold)
        self._weights: dict[str, nn.Parameter] = {}  # empty: nothing is to be done
        self._final = 0.0  # the rate after the last pruning
        self._hook: AfterStep | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()
        pruner, run = self._pruner(trainer), progress(trainer, 0)
        self._final = pruner.schedule(replace(run, step=run.total)) or 0.0
        if self._final == 0 or self.l1 == self.threshold == 0:
            return
        refuse_averages(trainer, self, "whose copy has no zeros")
        check_unscaled(trainer, "an L1 term")
        if of_kind(trainer, Binarize):
            raise ValueError("Binarize beside Sparsify: weights of one bit have no zeros; leave out one of them")
        self._weights = self._trained(prunable_weights(pl_module, pruner.skip), trainer.optimizers[0])
        # Behind the optimizer's step and before any on_train_batch_end, as Pruning's zeros.
        self._hook = AfterStep(trainer.optimizers[0], lambda optimizer: self._pull(trainer, optimizer), once=True)

    def _pruner(self, trainer: L.Trainer) -> Pruner:
        pruning = only(trainer, Pruning, beside=self)
        if pruning is None:
            raise ValueError("Sparsify works beside one Pruning callback, there is none: add it")
        return pruning.pruner

    def _trained(self, weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, nn.Parameter]:
        """Those that the optimizer has. Raises ValueError where the L1 term would have no effect on one."""
        rates = {id(p): group.get("lr") for group in optimizer.param_groups for p in group["params"]}
        if self.l1 and None in rates.values():
            raise ValueError(f"l1={self.l1:g}: {type(optimizer).__name__} has no learning rate to go with; use l1=0")
        trained = {name: w for name, w in weights.items() if id(w) in rates}
        if self.l1 and (half := [name for name, w in trained.items() if w.dtype in (torch.float16, torch.bfloat16)]):
            raise ValueError(
                f"l1={self.l1:g}: its steps are lost in 16 bits, as of {half[0]}; use bf16-mixed or 32-true"
            )
        return trained

    def _acts(self, trainer: L.Trainer) -> bool:
        """Whether the last pruning is done."""
        return bool(self._weights) and self._pruner(trainer).rate >= self._final

    def _pull(self, trainer: L.Trainer, optimizer: torch.optim.Optimizer) -> None:
        if self.l1 == 0 or not self._acts(trainer):
            return
        chosen = {id(w) for w in self._weights.values()}
        for group in optimizer.param_groups:
            weights = [p.detach() for p in group["params"] if id(p) in chosen and p.requires_grad]
            soft_threshold_(weights, float(group["lr"]) * self.l1)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._hook is not None:
            self._hook.forget_failed()
        if self._acts(trainer) and _is_over(trainer):
            self._cut(pl_module, trainer.optimizers[0])

    def _cut(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        weights = self._left(module)
        before, of = _zeros(weights), sum(w.numel() for w in weights.values())
        small = MaskedParameters(weights)
        small.adopt({name: ~(w.detach().abs() < self.threshold) for name, w in weights.items()})  # NaN stays
        small.zero(optimizer)
        zeros = _zeros(weights)
        log.info(
            "%d of the %d weights left are 0, %d of them by threshold=%g", zeros, of, zeros - before, self.threshold
        )
        if empty := [name for name, w in weights.items() if not w.any()]:
            log.warning("all weights are 0: %s; lower l1=%g or threshold", ", ".join(empty), self.l1)

    def _left(self, module: nn.Module) -> dict[str, nn.Parameter]:
        """Those that surgery has not removed with their block."""
        present = {id(p) for p in module.parameters()}
        return {name: w for name, w in self._weights.items() if id(w) in present}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._acts(trainer):
            weights = self._left(pl_module)
            share = _zeros(weights) / sum(w.numel() for w in weights.values())
            pl_module.log("weights/zero", share, rank_zero_only=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.threshold and self._acts(trainer) and not _is_over(trainer):
            log.warning("training ended before its last step: no weight was set to 0 by threshold=%g", self.threshold)
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        self._weights = {}
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


def _is_over(trainer: L.Trainer) -> bool:
    run = progress(trainer, steps_done(trainer))
    return run.step >= run.total


def _zeros(weights: dict[str, nn.Parameter]) -> int:
    return sum(w.numel() - int(w.count_nonzero()) for w in weights.values())
