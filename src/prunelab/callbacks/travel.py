"""How far a constant pull moves a parameter that nothing else moves: sum of lr x gamma / (1 - momentum)."""

import copy
import warnings
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch.optim.lr_scheduler import LRScheduler

from prunelab.callbacks.scoring import is_fast_dev_run, progress, steps_done
from prunelab.core.penalty import Reach
from prunelab.core.pruner import Pruner
from prunelab.core.time import Progress


def reach_before_pruning(trainer: L.Trainer, pruner: Pruner | None) -> Reach:
    """The reach from now, the start of a training, to the first pruning of a method in rounds, else to the last."""
    optimizer, steps = trainer.optimizers[0], _steps(trainer, pruner)
    normalises = not isinstance(optimizer, torch.optim.SGD)
    if unknown := why_unplanned(trainer):
        return Reach(steps, 0.0, None if normalises else 0.0, unknown)
    total = sum(planned_rates(trainer, steps))
    if normalises:
        return Reach(steps, total, None)
    momentum, dampening = (optimizer.param_groups[0][key] for key in ("momentum", "dampening"))
    return Reach(steps, total, total * (1 - (dampening if momentum else 0)) / (1 - momentum))


def _steps(trainer: L.Trainer, pruner: Pruner | None) -> int:
    done = steps_done(trainer)
    if is_fast_dev_run(trainer):
        return trainer.max_steps - done
    run = progress(trainer, done)
    if pruner is None:
        return run.total - done
    schedule, first = pruner.schedule, pruner.schedule(run)

    def ends(p: Progress) -> bool:
        return schedule(p) != first if schedule.in_rounds else schedule.is_last(p)

    return next((s for s in range(done + 1, run.total) if ends(replace(run, step=s))), run.total) - done


def why_unplanned(trainer: L.Trainer) -> str:
    """Why a copy of the learning-rate schedule does not tell the rates to come; "" where it does, or there is none.

    A schedule that is told the time, as by `scheduler.step(epoch=self.current_epoch)`, is where the training is.
    """
    configs, module = trainer.lr_scheduler_configs, trainer.lightning_module
    if not configs or configs[0].reduce_on_plateau:
        return ""
    if not module.automatic_optimization:
        return "manual optimization steps the schedule when it likes"
    schedule, told = _copied(trainer), []
    schedule.step = lambda *args, **kwargs: told.append((args, kwargs))
    module.lr_scheduler_step(schedule, None)
    if told == [((), {})] or (not told and isinstance(schedule, LRScheduler)):  # one that is over takes no step
        return ""
    return "the module's lr_scheduler_step tells the schedule the time"


def planned_rates(trainer: L.Trainer, steps: int) -> list[float]:
    """The learning rate of the optimizer's first group at each of the next `steps` steps.

    Found by taking a copy of the schedule through them, by the module's `lr_scheduler_step`: where that ends a
    schedule, its last rate stays. A schedule that depends on a metric counts as constant.
    """
    optimizer, configs, module = trainer.optimizers[0], trainer.lr_scheduler_configs, trainer.lightning_module
    if not configs or configs[0].reduce_on_plateau:
        return [float(optimizer.param_groups[0]["lr"])] * steps
    every = configs[0].frequency * (1 if configs[0].interval == "step" else progress(trainer, 0).epoch)
    schedule = _copied(trainer)
    rates, done = [], steps_done(trainer)
    with warnings.catch_warnings(action="ignore"):  # that the optimizer took no step
        for step in range(1, steps + 1):
            rates.append(float(schedule.optimizer.param_groups[0]["lr"]))
            if step < steps and (done + step) % every == 0:
                module.lr_scheduler_step(schedule, None)
    return rates


def _copied(trainer: L.Trainer) -> Any:
    """The schedule with an optimizer of its own, whose parameters and state are the same."""
    optimizer = trainer.optimizers[0]
    shared = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    return copy.deepcopy(trainer.lr_scheduler_configs[0].scheduler, shared | {id(optimizer.state): optimizer.state})
