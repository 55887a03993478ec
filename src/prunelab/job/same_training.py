"""At rate 0 every method that trains from scratch trains the dense network: one job's training serves them all."""

import logging
import time
from collections.abc import Iterator

from prunelab.callbacks.analysis.rate_scan import Scan
from prunelab.callbacks.analysis.sensitivity import Sensitivity
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.rewind import Rewind
from prunelab.callbacks.shrink import Shrink
from prunelab.core.schedule import Cubic, Rounds
from prunelab.lit.checkpoints import is_intact
from prunelab.store.folder import RunDir
from prunelab.store.job import Job
from prunelab.store.lock import is_held
from prunelab.store.result import Result
from prunelab.store.signals import Interrupted, StopRequest

log = logging.getLogger(__name__)
# Callbacks that do nothing to a training whose schedule says 0, and schedules that say their `rate`.
IDLE = {f"{kind.__module__}.{kind.__qualname__}" for kind in (Pruning, Shrink, Rewind, Scan, Sensitivity)}
SCHEDULES = {f"{kind.__module__}.{kind.__qualname__}" for kind in (Cubic, Rounds)}


def trains_dense(job: Job) -> bool:
    """Whether the training has the bits of `prune=none`, by the configuration alone: it may be a file's."""
    parts = (job.config.get("prune") or {}).values()
    schedules = [part["pruner"]["schedule"] for part in parts if "pruner" in part]
    return (
        job.rate == 0
        and all(part["_target_"] in IDLE for part in parts)
        and all(schedule["_target_"] in SCHEDULES and schedule["rate"] == 0 for schedule in schedules)
    )


def may_share(job: Job) -> bool:
    """Whether the job may take the training of another: it trains the dense network, on one device, and is no rerun."""
    return trains_dense(job) and job.devices == 1 and job.epochs > 0 and not job.config["rerun"]


def finished_elsewhere(job: Job, folder: RunDir, stop: StopRequest) -> Result | None:
    """The result of another job of rate 0 that has trained this one's network, with its last checkpoint; else None.

    Looks in the job's own study and in those beside it. Waits for one that trains now, where its folder sorts before
    this one's: of two that begin together, one waits. Raises Interrupted if a stop is requested meanwhile.
    """
    for other in _of_rate_zero(job, folder):
        waited = False
        while other.path < folder.path and is_held(other.lock) and _will_train(other, job, folder):
            if not waited:
                log.info("waiting for the same training in %s", other.path)
            waited = True
            if stop:
                raise Interrupted("stopped before it began")
            time.sleep(0.5)
        result = other.result()
        whole = result and len(result.history) == job.epochs and not result.trained_in
        if result and whole and _same(result.job, job) and is_intact(other.checkpoint):
            return result
    return None


def _of_rate_zero(job: Job, folder: RunDir) -> Iterator[RunDir]:
    """The folders of a study and of those beside it that are named as `job_folder` names jobs of this rate and seed."""
    study = folder.path.parent
    for where in (study, *sorted(path for path in study.parent.iterdir() if path != study)):
        for path in sorted(where.glob(f"prune=*,rate=0,seed={job.seed}*")):
            if path != folder.path:
                yield RunDir(path)


def _will_train(other: RunDir, job: Job, folder: RunDir) -> bool:
    """Whether a folder in use is of the same training; by its name without `prune=` until job.json is there."""
    begun = other.job()
    return _same(begun, job) if begun else other.path.name.partition(",")[2] == folder.path.name.partition(",")[2]


def _same(other: Job | None, job: Job) -> bool:
    if other is None or (other.comparable, other.seed) != (job.comparable, job.seed):
        return False
    try:
        return trains_dense(other)
    except (LookupError, TypeError, AttributeError):  # of another version, or damaged
        return False
