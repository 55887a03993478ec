"""DSSS, data-driven sparse structure selection: trains a factor per unit towards 0 (Huang & Wang 2018)."""

import logging
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunelab.callbacks.after_step import AfterStep, only_optimizer
from prunelab.callbacks.averages import refuse_averages
from prunelab.callbacks.neighbours import check_first, is_last_pruning_ahead, of_kind, only
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.rewind import Rewind
from prunelab.callbacks.scoring import progress
from prunelab.callbacks.shrink import Shrink
from prunelab.callbacks.travel import reach_before_pruning
from prunelab.channels.factors import Factors
from prunelab.channels.units import PrunableStructure, prunable_structure
from prunelab.core.penalty import Reach
from prunelab.core.pruner import Pruner
from prunelab.core.time import Progress
from prunelab.criteria.factor import Factor
from prunelab.measure.compile_time import drop_graphs

log = logging.getLogger(__name__)


class ScalingFactors(L.Callback):
    """Trains a factor for each unit of the Pruning callback, from 1 towards 0, until the last pruning.

    The factor multiplies the unit's output. After each optimizer step the factors take a step of their own, which
    pulls at them with `gamma` and makes exact zeros, without weight decay or clipping. Its learning rate is a constant
    `lr` or that of SGD's first group; beside other optimizers 0.1, the usual peak of SGD, on their schedule. Without a
    `gamma` it follows from the learning rates until the first pruning, so that a factor which nothing else moves
    loses `travel`. The criterion Factor removes the units of the smallest factors.
    After the last pruning, or at the end of a fit that stops before it, the factors are folded into the weights.
    Until then the network computes with them, in evaluation too, and checkpoints hold them beside its unchanged
    state_dict. With a rate of 0 nothing is done.

    Logs `factors/zero` each epoch: the fraction of factors that are exactly 0.
    Listed before the Pruning, whose units must be removable. Raises ValueError before training for anything else,
    more than one optimizer, fp16 mixed precision, a Rewind that restores weights, everything pruned before the
    first step, and layers that factors cannot be folded into.
    """

    def __init__(
        self, gamma: float | None = None, momentum: float = 0.9, lr: float | None = None, travel: float = 4.0
    ) -> None:
        if gamma is not None and not gamma >= 0:
            raise ValueError(f"gamma={gamma}: expected a number of at least 0")
        if not travel > 0:
            raise ValueError(f"travel={travel}: expected a number above 0")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum}: expected a number in [0, 1)")
        if lr is not None and not lr > 0:
            raise ValueError(f"lr={lr}: expected a number above 0, or null for the optimizer's")
        self.gamma, self.momentum, self.lr, self.travel = gamma, momentum, lr, travel
        self._hooks: list[RemovableHandle | AfterStep] = []
        self._after: AfterStep | None = None
        self._loaded: dict[str, Any] | None = None
        self._forget()

    def _forget(self) -> None:
        self.factors: Factors | None = None  # from the start of a fit until they are folded
        self._gamma = 0.0  # of this training
        self._cut = (0, 0.0)  # removed units whose factor was not 0 yet, and the largest of these

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._loaded = None  # from an earlier run; Lightning loads a checkpoint after this, in any stage
        self._forget()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            refuse_factors(self._loaded)

    on_test_start = on_predict_start = on_validation_start

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Not before: a Pruning, listed later, finds its units in on_fit_start.
        pruner = self._pruner(trainer)
        if not is_last_pruning_ahead(pruner, progress(trainer, 0), "no factor is trained by then"):
            return
        optimizer = only_optimizer(trainer, self)
        _check_run(trainer)
        refuse_averages(trainer, self, "whose copy has no factors")
        self.factors = Factors(pl_module, _units(pruner))
        if self._loaded is None or self._loaded["values"] is None:
            self._gamma = self._plan(trainer, pruner)
        else:
            self._restore(self.factors, self._loaded)
        self._after = AfterStep(optimizer, self._step, once=True)
        self._hooks = [*self.factors.hook(pl_module), self._after]
        drop_graphs()  # an earlier graph, as of the sanity check, would run without hooks

    def _pruner(self, trainer: L.Trainer) -> Pruner:
        pruning = only(trainer, Pruning, beside=self)
        if pruning is None:
            raise ValueError("ScalingFactors works beside one Pruning callback, there is none: add it")
        check_first(trainer, self, Pruning, Shrink, why="which would be late")
        _units(pruning.pruner)
        return pruning.pruner

    def _restore(self, factors: Factors, state: dict[str, Any]) -> None:
        with torch.no_grad():
            factors.values.copy_(state["values"])
        factors.velocity.copy_(state["velocity"])
        self._cut, self._gamma = tuple(state["cut"]), state["gamma"]

    def _plan(self, trainer: L.Trainer, pruner: Pruner) -> float:
        """Gamma for the training that begins."""
        reach, optimizer = reach_before_pruning(trainer, pruner), trainer.optimizers[0]
        if self.lr is None:
            share = self._share(optimizer)
        else:
            reach, share = Reach(reach.steps, reach.steps * self.lr, None), 1.0
        per_gamma = reach.proximal * share / (1 - self.momentum)
        gamma = reach.gamma(self.travel, per_gamma) if self.gamma is None else self.gamma
        if reach.unknown:
            return gamma
        log.info("factors: gamma=%.3g moves one that nothing else moves by %.3g, from 1", gamma, gamma * per_gamma)
        if gamma * per_gamma < 1:
            log.warning(
                "no factor can reach 0: gamma=%.3g moves by %.3g, and all start at 1; raise gamma",
                gamma, gamma * per_gamma,
            )  # fmt: skip
        return gamma

    @staticmethod
    def _share(optimizer: torch.optim.Optimizer) -> float:
        """Of the optimizer's learning rate: factors take plain steps, for which one of Adam's is too low."""
        return 1.0 if isinstance(optimizer, torch.optim.SGD) else 0.1 / float(optimizer.defaults["lr"])

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._after is not None:
            self._after.forget_failed()
        if self.factors is not None and isinstance((pruner := self._pruner(trainer)).criterion, Factor):
            pruner.set_scores(self.factors.scores())

    def on_before_zero_grad(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if self.factors is not None:
            self.factors.values.grad = None

    def _step(self, optimizer: torch.optim.Optimizer) -> None:
        assert self.factors is not None
        lr = float(optimizer.param_groups[0]["lr"]) * self._share(optimizer) if self.lr is None else self.lr
        self.factors.step(lr, self._gamma, self.momentum)

    def on_pruned(self, trainer: L.Trainer, pl_module: L.LightningModule, pruner: Pruner, run: Progress) -> None:
        """Called by Pruning when it has changed the masks, before the next step."""
        if self.factors is None:
            return
        values, alive = self.factors.values.detach(), self.factors.alive(pruner.keep)
        zeros = int((values == 0).sum()) - self._cut[0]
        self._count_cut(values[~alive])
        if not pruner.schedule.is_last(run):
            self.factors.mask(alive)
            return
        self._report(zeros, alive, useless=int((values[alive] == 0).sum()))
        self._fold(pl_module)
        pruner.apply(trainer.optimizers[0])

    def _count_cut(self, removed: Tensor) -> None:
        """`removed` are the factors of all removed units; those of earlier prunings are 0 by now."""
        count, largest = self._cut
        self._cut = count + int((removed > 0).sum()), max([largest, *removed.tolist()])

    def _report(self, zeros: int, alive: Tensor, useless: int) -> None:
        units, removed, (missed, largest) = len(alive), int((~alive).sum()), self._cut
        log.info(
            "factors folded: %d of %d were exactly 0; pruning removed %d units, with factors up to %.3g",
            zeros, units, removed, largest,
        )  # fmt: skip
        if missed:
            log.warning(
                "%d of the %d removed units had factors above 0, up to %.3g, so removing them changes outputs: for "
                "more zeros raise gamma=%g or epochs, or lower the rate",
                missed, removed, largest, self._gamma,
            )  # fmt: skip
        if useless:
            log.warning(
                "%d kept units have factor 0 and compute nothing: lower gamma=%g or raise the rate",
                useless, self._gamma,
            )  # fmt: skip

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.factors is not None:
            pl_module.log("factors/zero", (self.factors.values == 0).float().mean(), rank_zero_only=True)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Not at the end of training, when checkpoint callbacks may save.
        if self.factors is not None:
            self._fold(pl_module)

    def _fold(self, pl_module: L.LightningModule) -> None:
        assert self.factors is not None
        self.factors.fold(pl_module)
        self._forget()
        self._unhook()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._unhook()  # the factors stay, for a checkpoint that is saved now

    def _unhook(self) -> None:
        if self._hooks:
            drop_graphs()
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._after = [], None

    def state_dict(self) -> dict[str, Any]:
        """Empty without factors, as after folding."""
        f = self.factors
        return {
            "values": f.values.detach().clone() if f else None,
            "velocity": f.velocity.clone() if f else None,
            "cut": self._cut,
            "gamma": self._gamma,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict


def refuse_factors(state: Mapping[str, Any] | None) -> None:
    """Raises ValueError for the state of one in a checkpoint of a network that is still multiplied by its factors."""
    if state is not None and state.get("values") is not None:
        raise ValueError(
            "the network of this checkpoint is multiplied by factors until it is pruned: finish its training first"
        )


def _units(pruner: Pruner) -> PrunableStructure:
    units = prunable_structure(pruner.granularity)
    if units is None:
        kind = type(pruner.granularity).__name__
        raise ValueError(f"factors scale filters, neurons or blocks, not {kind}: use prune/granularity=channels")
    return units


def _check_run(trainer: L.Trainer) -> None:
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        raise ValueError("precision=16-mixed scales gradients, also those of factors: use bf16-mixed or 32-true")
    for rewind in of_kind(trainer, Rewind):
        if rewind.parameters or rewind.control:
            raise ValueError("Rewind restores weights that had other factors: use retrain=lr_rewind or finetune")
