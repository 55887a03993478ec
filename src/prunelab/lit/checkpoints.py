"""When is a checkpoint written, and how: whole or not at all, and read without unpickling code?"""

import logging
import os
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from prunelab.core.atomic import atomic_write
from prunelab.core.time import length, seconds

log = logging.getLogger(__name__)
LAST, BEFORE, DAMAGED = "last.ckpt", "previous.ckpt", "damaged.ckpt"


class WholeCheckpointIO(TorchCheckpointIO):
    """Local files: a temporary file beside the target, fsync, rename; loads tensors and plain values only."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        path = Path(path)
        with atomic_write(path, path.with_name(BEFORE) if path.name == LAST else None) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)


def newest(folder: Path) -> Path | None:
    """The last checkpoint that is whole; a damaged one is put aside with a warning, so that it replaces no other."""
    for path in (folder / LAST, folder / BEFORE):
        if path.exists():
            if is_whole(path):
                return path
            log.warning("%s is damaged, the one before it is taken", path)
            with suppress(FileNotFoundError):  # another rank may have done so
                path.rename(folder / DAMAGED)
    return None


def is_whole(path: Path) -> bool:
    """Whether every byte of a checkpoint is as it was written, by the checksums inside; False where there is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
        torch.load(path, map_location="cpu", mmap=True, weights_only=True)  # the checksums are not of all headers
        return True
    except Exception:  # bits that have flipped in a header are taken for lengths, codes, names and versions
        return False


class Checkpoints(Checkpoint):
    """last.ckpt and the one before it in `folder`: when `every` has passed since, at the end, and when asked to stop.

    `every` is of steps or of time: "500it", "3ep", "90s", "5min", "1h". Where `asked` says yes on any rank, all save
    and raise `stop`; during an evaluation, after it, and after Lightning has logged the epoch. Saved between two
    optimizer steps or where an epoch ends.
    """

    def __init__(self, folder: Path, every: str, asked: Callable[[], bool], stop: type[Exception]) -> None:
        self.path = folder / LAST
        self.every = every
        self.asked, self.stop = asked, stop
        self._stopping = False
        self.seconds = seconds(every)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        batches = int(trainer.num_training_batches)
        self.steps = 0 if self.seconds else max(1, length(self.every, -(-batches // trainer.accumulate_grad_batches)))
        self._saved, self._when = trainer.global_step, time.monotonic()
        self._stopping = False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        last = batch_idx + 1 == trainer.num_training_batches  # all that is left of the epoch is its evaluation
        if not last and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._look(trainer)
            self._end(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._look(trainer, over=trainer.current_epoch + 1 == trainer.max_epochs)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end(trainer)

    def on_mask_evaluated(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Called by Scan and Sensitivity between two masks: training is safe by now, and they begin again."""
        if self.asked():
            raise self.stop("interrupted while masks were tried on the trained net")

    def _look(self, trainer: L.Trainer, over: bool = False) -> None:
        asked = self.asked()
        if trainer.strategy.reduce_boolean_decision(asked or over or self._due(trainer.global_step), all=False):
            trainer.save_checkpoint(self.path)
            self._saved, self._when = trainer.global_step, time.monotonic()
            self._stopping = trainer.strategy.reduce_boolean_decision(asked, all=False) and not over

    def _end(self, trainer: L.Trainer) -> None:
        if self._stopping:
            raise self.stop(f"interrupted at step {trainer.global_step}")

    def _due(self, step: int) -> bool:
        if self.seconds:
            return time.monotonic() - self._when >= self.seconds
        return step // self.steps > self._saved // self.steps
