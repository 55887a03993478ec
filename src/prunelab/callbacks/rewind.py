"""Rewinding to step k after each pruning (Frankle & Carbin 2019; Renda et al. 2020)."""

import logging
from typing import Any

import lightning as L
import torch

from prunelab.callbacks.averages import refuse_averages
from prunelab.callbacks.neighbours import only
from prunelab.callbacks.pruning import Pruning, continues
from prunelab.callbacks.scoring import is_fast_dev_run, progress
from prunelab.callbacks.travel import why_unplanned
from prunelab.core.network.optimizers import with_held
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.network.snapshot import Snapshot
from prunelab.core.numbers.seeding import derived_generator
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds, Schedule
from prunelab.core.time import Progress, Time, length, to_step

log = logging.getLogger(__name__)
CONTROLS = (None, "reinit", "shuffle")


class Rewind(L.Callback):
    """Captures the run at step `to` ("500it", "3ep" or 0), and restores what is chosen after each pruning.

    `parameters` and `buffers` are those of the whole network, biases and norms included; `optimizer` is its state
    (momentum); `schedule` is the position on the learning-rate schedule, with its rates. Masks stay and are
    applied to the restored weights. Checkpoints hold the snapshots.

    After the last pruning a `control` replaces the ticket: "reinit" keeps its mask with other initial weights
    (those of step 0, permuted within each weight tensor) and a fresh optimizer; "shuffle" keeps its weights with
    the mask permuted within each layer.

    Works beside one Pruning callback that prunes in `Rounds`, in any Lightning project with one optimizer and
    automatic optimization. Raises ValueError before training for anything else, and for a step after the first
    pruning.
    """

    def __init__(
        self,
        to: Time = 0,
        parameters: bool = True,
        buffers: bool = True,
        optimizer: bool = True,
        schedule: bool = True,
        control: str | None = None,
        seed: int = 0,
    ) -> None:
        if control not in CONTROLS:
            raise ValueError(f"control={control!r}: expected one of {CONTROLS}")
        self.to = to
        self.parameters, self.buffers, self.optimizer, self.schedule = parameters, buffers, optimizer, schedule
        self.control = control
        self.seed = seed
        self.snapshots: dict[str, Snapshot] = {}  # "start" is of step 0, for a control; "rewind" of step `to`
        self._loaded: dict[str, Any] = {}

    @property
    def state_key(self) -> str:
        return self._generate_state_key(to=str(self.to or 0))

    def step(self, epoch: int) -> int:
        """Step k, given the optimizer steps of an epoch."""
        return 0 if self.to == 0 else length(self.to, epoch)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._loaded = {}  # from an earlier run; Lightning loads a checkpoint after this
        if stage == "fit" and continues(trainer, pl_module):
            self._loaded = self.state_dict()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.snapshots = {name: Snapshot.from_state_dict(state) for name, state in self._loaded.items()}
        if len(trainer.optimizers) != 1 or len(trainer.lr_scheduler_configs) > 1:
            raise ValueError("Rewind works with one optimizer and at most one learning-rate schedule")
        pruning = only(trainer, Pruning, beside=self)
        if not pl_module.automatic_optimization:
            raise ValueError("Rewind needs automatic_optimization=True: it counts one optimizer step a batch")
        if self.schedule and (why := why_unplanned(trainer)):
            raise ValueError(f"Rewind cannot set the schedule back: {why}; use scheduler.step(), or schedule=False")
        if self.optimizer and len(with_held(trainer.optimizers[0])) > 1:
            name = type(trainer.optimizers[0]).__name__
            raise ValueError(f"Rewind does not restore the optimizer that {name} holds: use optimizer=False")
        if self.parameters or self.control:
            refuse_averages(trainer, self, "whose copy would keep the weights of later steps")
        if pruning is not None:
            self._check_schedule(pruning.pruner.schedule, progress(trainer, 0))
        if self.control == "shuffle" and pruning is not None and pruning.pruner.granularity.in_groups:
            raise ValueError("control=shuffle would break N:M groups: use control=reinit, or granularity=weight")
        self._capture(trainer, pl_module)  # before a Pruning listed earlier acts on step 0
        if pruning is not None and "rewind" not in self.snapshots and trainer.global_step > 0:
            self._check_captured(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._capture(trainer, pl_module)

    def _check_schedule(self, schedule: Schedule, run: Progress) -> None:
        if not isinstance(schedule, Rounds):
            raise ValueError(f"Rewind goes with Rounds: {type(schedule).__name__} prunes all the time")
        step, first = self.step(run.epoch), to_step(schedule.start, run)
        if schedule.rounds and step >= max(first, 1):
            raise ValueError(
                f"rewind to {self.to!r}, step {step}: the first pruning is at step {first}; rewind to an earlier step"
            )

    def _check_captured(self, trainer: L.Trainer) -> None:
        step = self.step(progress(trainer, 0).epoch)
        if trainer.global_step > step:
            raise ValueError(
                f"rewind to {self.to!r}, step {step}: training resumes at step {trainer.global_step}, and its "
                "checkpoint holds no snapshot; train from the start with Rewind"
            )

    def _capture(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        missing = ({"rewind", "start"} if self.control == "reinit" else {"rewind"}) - self.snapshots.keys()
        for name in sorted(missing):
            step = 0 if name == "start" or is_fast_dev_run(trainer) else self.step(progress(trainer, 0).epoch)
            if trainer.global_step == step:
                self.snapshots[name] = Snapshot.capture(pl_module, trainer.optimizers[0], _schedule(trainer))

    def on_pruned(self, trainer: L.Trainer, pl_module: L.LightningModule, pruner: Pruner, run: Progress) -> None:
        """Called by Pruning when it has changed the masks, before the next step."""
        control = self.control if pruner.schedule.is_last(run) else None
        if control == "shuffle":
            pruner.shuffle()
        self._restore(trainer, pl_module)
        if control == "reinit":
            self._reinitialise(trainer, pl_module)
        pruner.apply(trainer.optimizers[0])
        what = [w for w in ("parameters", "buffers", "optimizer", "schedule") if getattr(self, w)]
        log.info("pruned to %.4g; back to step %d: %s", pruner.rate, self.step(run.epoch), ", ".join(what))

    def _restore(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        snapshot = self.snapshots["rewind"]
        snapshot.restore_net(pl_module, parameters=self.parameters, buffers=self.buffers)
        if self.optimizer:
            snapshot.restore_optimizer(trainer.optimizers[0])
        if self.schedule and (schedule := _schedule(trainer)) is not None:
            snapshot.restore_schedule(schedule)

    def _reinitialise(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        start = self.snapshots["start"]
        start.restore_net(pl_module)
        for optimizer in with_held(trainer.optimizers[0]):
            optimizer.state.clear()
        generator = derived_generator("reinit", self.seed)
        with torch.no_grad():
            for weight in prunable_weights(pl_module).values():
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.copy_(weight.reshape(-1)[order].view(weight.shape))

    def state_dict(self) -> dict[str, Any]:
        return {name: snapshot.state_dict() for name, snapshot in self.snapshots.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict


def _schedule(trainer: L.Trainer) -> Any:
    return trainer.lr_scheduler_configs[0].scheduler if trainer.lr_scheduler_configs else None
