"""Checkpoints: when they are saved, atomic writes, and loading without running pickled code."""

import logging
import os
import time
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from torch import nn

from prunelab.core import distributed
from prunelab.core.files.atomic import atomic_write
from prunelab.core.time import length, seconds

log = logging.getLogger(__name__)
LAST, PREVIOUS, DAMAGED = "last.ckpt", "previous.ckpt", "damaged.ckpt"
# Lightning keeps states under the names of classes. Those of 0.1.0 that have changed; it would ignore them silently.
RENAMED = {"ImageBatches": "ImageDataModule", "RandomStreams": "RngState"}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Saves local files by temporary file, fsync and rename; loads only tensors and plain values."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        path = Path(path)
        with atomic_write(path, path.with_name(PREVIOUS) if path.name == LAST else None) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        checkpoint = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        for states in (checkpoint, checkpoint.get("callbacks", {})):
            for before, now in RENAMED.items():
                if before in states:
                    states[now] = states.pop(before)
        return checkpoint


def latest_intact(folder: Path, parameters: Collection[str]) -> Path | None:
    """The latest checkpoint that `is_intact`; others are renamed with a warning: they must replace no good one."""
    for path in (folder / LAST, folder / PREVIOUS):
        if path.exists():
            if is_intact(path, parameters):
                return path
            log.warning("%s is damaged, or holds NaN or infinities; using the checkpoint before it", path)
            with suppress(FileNotFoundError):  # another rank may have renamed it
                path.rename(folder / DAMAGED)
    return None


def is_intact(path: Path, parameters: Collection[str]) -> bool:
    """Whether a checkpoint's bytes match its checksums, and training can go on from it; False if it does not exist.

    `parameters` are their names in the module; the other tensors there are buffers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
        # The checksums do not cover all headers.
        checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception:  # flipped bits in a header are read as lengths, opcodes, names and versions
        return False
    states = (state for optimizer in checkpoint.get("optimizer_states", ()) for state in optimizer["state"].values())
    optimizer_state = (("optimizer", value) for state in states for value in state.values())
    return _not_finite(checkpoint.get("state_dict", {}), parameters, optimizer_state) is None


class Checkpoints(Checkpoint):
    """Saves last.ckpt in `folder`, and keeps the one before it: at intervals, at the end, and on a stop request.

    `every` is a number of steps or a time: "500it", "3ep", "90s", "5min", "1h". If `stop_requested` is true on any
    rank, all ranks save and raise `stop` after the same step; if an evaluation is running, after it and after Lightning
    has logged the epoch. Several ranks ask each other about once a second. Saves only between two optimizer steps or at
    the end of an epoch, and never a training that has diverged: that is a ValueError, and the last finite checkpoint
    stays.
    """

    def __init__(self, folder: Path, every: str, stop_requested: Callable[[], bool], stop: type[Exception]) -> None:
        self.path = folder / LAST
        self.every = every
        self.stop_requested, self.stop = stop_requested, stop
        self._stopping = False
        self.seconds = seconds(every)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        batches = int(trainer.num_training_batches)
        self.steps = 0 if self.seconds else max(1, length(self.every, -(-batches // trainer.accumulate_grad_batches)))
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        self._asked_step, self._asked_time, self._ask_step = trainer.global_step, time.monotonic(), trainer.global_step
        self._group = distributed.host_group()
        self._stopping = False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        last = batch_idx + 1 == trainer.num_training_batches  # only the evaluation of the epoch is left
        if not last and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._save_if_due(trainer, pl_module, ask=trainer.global_step >= self._ask_step)
            self._raise_if_stopping(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        end = trainer.current_epoch + 1 == trainer.max_epochs
        self._save_if_due(trainer, pl_module, ask=True, end=end)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._raise_if_stopping(trainer)

    def on_mask_evaluated(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Called by Scan and Sensitivity between two masks: training is saved by then, and they start again."""
        if self.stop_requested():
            raise self.stop("interrupted while masks were evaluated on the trained network")

    def _save_if_due(self, trainer: L.Trainer, module: nn.Module, ask: bool, end: bool = False) -> None:
        step = trainer.global_step
        stop, late = self._ask(step) if ask else (False, False)
        if stop or late or end or (self.steps and step // self.steps > self._saved_step // self.steps):
            self._refuse_diverged(trainer, module)
            trainer.save_checkpoint(self.path)
            self._saved_step, self._saved_time = step, time.monotonic()
            self._stopping = stop and not end

    def _ask(self, step: int) -> tuple[bool, bool]:
        """Whether any rank is to stop, and whether time has come for any to save; all ask again after the same step."""
        now = time.monotonic()
        steps_a_second = (step - self._asked_step) / max(now - self._asked_time, 1e-3)
        pause = max(1, int(steps_a_second)) if self._group else 1
        due = self.seconds is not None and now - self._saved_time >= self.seconds
        stop, late, negated = distributed.largest([self.stop_requested(), due, -pause], self._group)
        self._asked_step, self._asked_time, self._ask_step = step, now, step - negated
        return bool(stop), bool(late)

    def _refuse_diverged(self, trainer: L.Trainer, module: nn.Module) -> None:
        parameters = dict(module.named_parameters())
        states = ((name, o.state.get(param, {})) for o in trainer.optimizers for name, param in parameters.items())
        optimizer_state = ((name, value) for name, state in states for value in state.values())
        name = _not_finite(module.state_dict(), parameters, optimizer_state)
        if any(distributed.largest([name is not None], self._group)):
            kept = f"that of step {self._saved_step} is kept" if self.path.exists() else "there is none before"
            raise ValueError(
                f"step {trainer.global_step}: {name or 'another rank'} is NaN or infinite, training diverged, and no "
                f"checkpoint is saved ({kept}): lower the learning rate, or clip gradients"
            )

    def _raise_if_stopping(self, trainer: L.Trainer) -> None:
        if self._stopping:
            raise self.stop(f"interrupted at step {trainer.global_step}")


def _not_finite(
    state: Mapping[str, Any], parameters: Collection[str], optimizer_state: Iterable[tuple[str, Any]]
) -> str | None:
    """The name of a parameter or optimizer state that is not finite, or of a buffer with NaN: its inf may be meant."""
    for name, value in chain(state.items(), optimizer_state):
        if isinstance(value, torch.Tensor):  # an extra state is anything
            buffer = name in state and name not in parameters
            if value.isnan().any() if buffer else not value.isfinite().all():
                return name
    return None
