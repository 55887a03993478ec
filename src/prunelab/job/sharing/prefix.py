"""Until its first pruning a method trains the dense network: jobs share those epochs, whatever their rates."""

import logging
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from prunelab.core.files.atomic import remove_abandoned
from prunelab.job.own_checkpoint import RecordJob, trained_alike
from prunelab.job.peak_memory import PeakMemory
from prunelab.job.preflight import Parts
from prunelab.job.sharing.dense_checkpoint import in_turn
from prunelab.job.sharing.training import may_lock, may_share, same_training
from prunelab.lit.checkpoints import is_intact
from prunelab.lit.history import History
from prunelab.lit.rng_state import RngState
from prunelab.store.folder import RunDir
from prunelab.store.job import Job
from prunelab.store.lock import Busy, held
from prunelab.store.signals import StopRequest

log = logging.getLogger(__name__)


class Prefix(Checkpoint):
    """The first `epochs` of a training, which other jobs may begin with: saved at their end, in `path`.

    `path` holds nothing of the method, so that every method can go on from it, and is named by what is the same in
    these jobs. `trained` says which job trained the epochs, {"in": its folder, "epochs": n}, if that was another one;
    checkpoints keep it. A Checkpoint by type, as History, which must come before it. `lock` is held until they end.
    """

    def __init__(self, folder: Path, start: Path | None, epochs: int = 0, path: Path | None = None) -> None:
        self.start = start  # the checkpoint that training begins with
        self.epochs, self.path = epochs, path
        self.lock = ExitStack()
        self.trained: dict[str, Any] = {}
        self.taken = False  # whether that is `path`
        self._folder, self._same = str(folder), path.stem if path else ""
        self._saving = False

    def take(self, job: Job, parameters: Collection[str]) -> bool:
        """Begins with what a job has saved, if it is there and nothing has damaged it; whether it is so."""
        if self.path is None or not is_intact(self.path, parameters):
            return False
        saved = _load(self.path)
        record = saved.get("callbacks", {}).get(RecordJob.__name__, {})
        if record.get("identity") != self._same or not trained_alike(saved, job):
            return False
        self.start, self.taken = self.path, True
        return True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        done = trainer.current_epoch + 1
        if self.path and done == self.epochs:
            self._save(trainer, self.path)
        if done >= self.epochs:
            self.lock.close()

    def _save(self, trainer: L.Trainer, path: Path) -> None:
        self._saving = True
        try:
            trainer.save_checkpoint(path)
        except OSError as error:  # this job trains on all the same
            log.warning("%s: other jobs will train these epochs again: %s", path, error)
        finally:
            self._saving = False

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._saving:
            states = {name: checkpoint["callbacks"][name] for name in SHARED}
            states[RecordJob.__name__]["identity"] = self._same  # it is no job's own
            checkpoint["callbacks"] = states

    def state_dict(self) -> dict[str, Any]:
        return {"in": self._folder, "epochs": self.epochs} if self._saving else self.trained

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.trained = {} if state_dict["in"] == self._folder else state_dict


def _load(checkpoint: Path) -> dict[str, Any]:
    return torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)


SHARED = tuple(kind.__name__ for kind in (RecordJob, History, PeakMemory, RngState, Prefix))  # none of the method


@contextmanager
def shared_prefix(job: Job, parts: Parts, folder: RunDir, stop: StopRequest, start: Path | None) -> Iterator[Prefix]:
    """The epochs before the first pruning, for a job that would begin with `start`; without one it takes them.

    While one job trains them, inside the block, the others wait. They are the same for one seed, with the same
    settings, data, versions of software and number of threads, on the same kind of device, and as many. Raises
    Interrupted if a stop is requested while waiting.
    """
    epochs = parts.method.dense_epochs(parts.run) if may_share(job) else 0
    path = Path(job.config["parents"]) / "prefix" / f"{same_training(job, epochs=epochs)}.ckpt"
    if not epochs or not may_lock(path.with_suffix(".lock")) or (start and not trained_alike(_load(start), job)):
        yield Prefix(folder.path, start)
        return
    prefix, parameters = Prefix(folder.path, start, epochs, path), dict(parts.module.named_parameters())
    with prefix.lock as lock:
        if start:
            with suppress(Busy):  # another trains them from the beginning; this one goes on
                lock.enter_context(held(path.with_suffix(".lock"), str(folder.path)))
        elif not prefix.take(job, parameters):
            lock.enter_context(in_turn(path.with_suffix(".lock"), str(folder.path), lambda: bool(stop)))
            remove_abandoned(path.parent)
            if prefix.take(job, parameters):  # of the job that held it
                lock.close()
        yield prefix
