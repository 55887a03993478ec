"""At rate 0 every method that trains from scratch trains the dense network: one job's training serves them all."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch

from prunelab.job.method import Method
from prunelab.job.own_checkpoint import trained_alike
from prunelab.job.sharing.dense_checkpoint import in_turn, refuse_foreign
from prunelab.lit.checkpoints import is_intact
from prunelab.lit.device import arithmetic, expected_device
from prunelab.store.folder import RunDir
from prunelab.store.identity import digest, names_code
from prunelab.store.job import Job
from prunelab.store.json_file import read_json, write_json
from prunelab.store.lock import Busy, held
from prunelab.store.own_code import is_own, targets
from prunelab.store.result import Result
from prunelab.store.signals import StopRequest

FOREIGN = "prunelab.models.timm."  # whose version is not kept
log = logging.getLogger(__name__)


@contextmanager
def dense_training(job: Job, folder: RunDir, stop: StopRequest) -> Iterator[Result | None]:
    """Yields the result of another job that has trained this one's network; None where this one is to train it.

    While one job trains, inside the block, the others wait; `parents` keeps where the training lies. It is the same
    training for one seed, with the same settings, data, versions of software and number of threads, on the same kind
    of device. A job that has trained before goes on, whoever trains. Raises Interrupted if a stop is requested while
    waiting.
    """
    dense = not job.rate and may_share(job) and Method.of(job).trains_dense
    record = Path(job.config["parents"]) / "rate0" / f"{same_training(job)}.json"
    lock = record.with_suffix(".lock")
    if not dense or not may_lock(lock):
        yield None
        return
    twin = _finished(record, job)
    if not twin:
        with ExitStack() as stack:
            if folder.checkpoint.exists():
                with suppress(Busy):
                    stack.enter_context(held(lock, str(folder.path)))
            else:
                stack.enter_context(in_turn(lock, str(folder.path), lambda: bool(stop)))
            twin = _finished(record, job)  # by the job that held it
            if not twin:
                yield None
                _note(record, folder)
                return
    yield twin


def _note(record: Path, folder: RunDir) -> None:
    try:
        write_json(record, {"folder": os.path.relpath(folder.path, record.parent)})
    except OSError as error:  # the job is finished all the same
        log.warning("%s: other methods will train this network again: %s", record, error)


def same_training(job: Job, **more: int) -> str:
    """A digest that is equal for jobs that train the same dense network to the bit."""
    same = {"comparable": job.comparable, "seed": job.seed} | arithmetic(job.accelerator)
    return digest(same | more | dict(job.versions))


def may_share(job: Job) -> bool:
    """Whether it trains from scratch, on one device, by code that its versions name; no rerun."""
    scratch = not job.pretrained and job.epochs > 0 and job.devices == 1 and not job.config["rerun"]
    known = not any(is_own(target) or target.startswith(FOREIGN) for target in targets(job.values))
    return scratch and known and names_code(job.versions["commit"])


def may_lock(lock: Path) -> bool:
    """Whether this user may take the lock of a shared training; says so if not."""
    try:
        refuse_foreign(lock)
    except PermissionError as error:
        log.warning("no training is shared: %s", error)
        return False
    return True


def _finished(record: Path, job: Job) -> Result | None:
    """The result in the folder that `record` names, if it is whole and its checkpoint is there."""
    try:
        folder = RunDir(Path(os.path.normpath(record.parent / read_json(record)["folder"])))
    except (OSError, ValueError, LookupError, TypeError):  # absent or damaged: it is trained again
        return None
    result = folder.result()
    if not result or result.trained_in or not is_intact(folder.checkpoint, ()):
        return None
    same = (result.job.comparable, result.job.seed, result.job.versions) == (job.comparable, job.seed, job.versions)
    here = result.device.partition(":")[0] == expected_device(job.accelerator).type  # of Apple's GPUs nothing is shared
    if not (same and here and len(result.history) == job.epochs):
        return None
    saved = torch.load(folder.checkpoint, map_location="cpu", mmap=True, weights_only=True)
    return result if trained_alike(saved, job) else None
