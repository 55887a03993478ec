"""Applies a penalty to the units to be pruned, while any LightningModule trains."""

import logging
from dataclasses import asdict
from typing import Any

import lightning as L
import torch

from prunelab.callbacks.after_step import AfterStep, only_optimizer
from prunelab.callbacks.neighbours import check_first, is_last_pruning_ahead, only
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.scaled_gradients import check_unscaled
from prunelab.callbacks.scoring import progress, steps_done
from prunelab.callbacks.travel import reach_before_pruning
from prunelab.core.granularity import Granularity
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.penalty import Penalty, Reach
from prunelab.core.pruner import Pruner
from prunelab.core.time import Progress

log = logging.getLogger(__name__)


class Penalize(L.Callback):
    """Applies `penalty` at each optimizer step until the last pruning; never with a rate of 0.

    Its groups are the units of the Pruning callback; without one it acts on the units of `granularity` for the
    whole training. A sub-gradient is added to the gradient before Lightning clips it, like a term of the loss; a
    proximal step follows the optimizer's, with the learning rate of that step. It reads only parameters, so all
    ranks do the same. Its state is the reach of the penalty, found at the start from the schedule of learning rates:
    a penalty without a gamma takes it from there, so a resumed run continues with the same bits. The log says how far
    the penalty travels, and warns where that brings no group to 0.

    Logs `penalty/zero` each epoch: the fraction of groups that are exactly 0.
    Raises ValueError before training for more than one optimizer or Pruning, for a Pruning listed before this one,
    for parameters that are not trained, and where everything is pruned before the first penalised step.
    """

    def __init__(self, penalty: Penalty, granularity: Granularity | None = None) -> None:
        self.penalty = penalty
        self.granularity = granularity
        self._pulling: Penalty | None = None  # bound, until the last pruning
        self._zeros = 0, 0  # groups that were exactly 0 before the last pruning, all groups
        self._hook: AfterStep | None = None
        self._reach: Reach | None = None  # of this training, also after a resume

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._reach = None  # from an earlier run; Lightning loads a checkpoint after this, in any stage

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()
        optimizer = only_optimizer(trainer, self)
        pruner = self._pruner(trainer)
        untrained = "nothing is trained under the penalty"
        if pruner is not None and not is_last_pruning_ahead(pruner, progress(trainer, 0), untrained):
            return
        starts, self._reach = self._reach is None, self._reach or reach_before_pruning(trainer, pruner)
        self._pulling = self.penalty.planned(self._reach).bind(pl_module, self._units(pl_module, pruner))
        self._check_trained(optimizer)
        check_unscaled(trainer, "a penalty")
        if starts:
            self._pulling.begin()
            _say_travel(self._pulling, self._reach)
        self._hook = AfterStep(optimizer, self._shrink, once=True)

    def _pruner(self, trainer: L.Trainer) -> Pruner | None:
        pruning = only(trainer, Pruning, beside=self)
        check_first(trainer, self, Pruning, why="which would not see what it prunes")
        return pruning.pruner if pruning is not None else None

    def _units(self, module: L.LightningModule, pruner: Pruner | None) -> Granularity:
        if pruner is not None:
            return pruner.granularity
        if self.granularity is None:
            raise ValueError("Penalize without a Pruning callback: give it the units to pull at, granularity=")
        example = module.example_input_array
        if isinstance(example, dict):
            raise ValueError("example_input_array is a dict: Penalize takes a tensor or a tuple of tensors")
        return self.granularity.bind(module, prunable_weights(module), example)

    def _check_trained(self, optimizer: torch.optim.Optimizer) -> None:
        assert self._pulling is not None
        trained = {id(p) for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
        if frozen := [name for name, p in self._pulling.params.items() if id(p) not in trained]:
            raise ValueError(f"the penalty would change what is not trained: {', '.join(frozen)}; train it, or skip it")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._hook is not None:
            self._hook.forget_failed()
        pruner = self._pruner(trainer)
        if self._pulling is None or pruner is None:
            return
        run = progress(trainer, steps_done(trainer))
        if pruner.schedule.is_last(run):  # before Pruning, which comes next, zeroes more
            zeros = self._pulling.zeros()
            self._zeros = int(zeros.sum()), len(zeros)

    def on_pruned(self, trainer: L.Trainer, pl_module: L.LightningModule, pruner: Pruner, run: Progress) -> None:
        """Called by Pruning when it has changed the masks, before the next step."""
        if self._pulling is None or not pruner.schedule.is_last(run):
            return
        if empty := _emptied(self._pulling, pruner):
            log.warning("all 0 though not all is pruned: %s; lower gamma", ", ".join(empty))
        self._stop()
        removed, units = (sum(column) for column in zip(*pruner.unit_counts().values(), strict=True))
        log.info(
            "penalty finished: %d of %d groups reached exactly 0, pruning removed %d of %d units%s",
            *self._zeros, removed, units, "" if self._zeros[0] else "; gamma may be too small",
        )  # fmt: skip

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if self._pulling is not None:
            self._pulling.before_step()

    def _shrink(self, optimizer: torch.optim.Optimizer) -> None:
        assert self._pulling is not None
        rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
        self._pulling.after_step({name: rates[id(p)] for name, p in self._pulling.params.items()})

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._pulling is not None:
            pl_module.log("penalty/zero", self._pulling.zeros().float().mean(), rank_zero_only=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._stop()

    def state_dict(self) -> dict[str, Any]:
        return asdict(self._reach) if self._reach else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._reach = Reach(**state_dict) if state_dict else None

    def _stop(self) -> None:
        self._pulling = None
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


def _say_travel(penalty: Penalty, reach: Reach) -> None:
    if reach.unknown or (travel := penalty.travel_over(reach)) is None:
        return
    log.info(
        "penalty: gamma=%.3g moves what nothing else moves by %.3g in %d steps; the nearest to 0 starts at %.3g",
        travel.gamma, travel.distance, reach.steps, travel.nearest,
    )  # fmt: skip
    if travel.distance < travel.nearest:
        log.warning(
            "the penalty can bring nothing to 0: gamma=%.3g moves by %.3g, and all start at %.3g or more; raise gamma",
            travel.gamma, travel.distance, travel.nearest,
        )  # fmt: skip


def _emptied(penalty: Penalty, pruner: Pruner) -> list[str]:
    """Weights and scales with units left that are all 0: nothing passes through them any more."""
    return [
        name
        for name, p in penalty.params.items()
        if name.endswith("weight") and not p.any() and (name not in pruner.masks or pruner.masks[name].any())
    ]
