"""Checkpoints know their job: training resumes from none of another."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch

from prunelab.lit.device import arithmetic
from prunelab.store.job import Job, differing

log = logging.getLogger(__name__)
UNKNOWN = {"versions": "unknown"}  # of checkpoints that do not say


class RecordJob(L.Callback):
    """Keeps in each checkpoint which job wrote it, and with which arithmetic and versions it was trained.

    `before` has those of earlier attempts, the first one's first, and of a training that this one goes on from; not
    the last, where this attempt has the same.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.before: list[dict[str, Any]] = []
        self._trains = False

    def state_dict(self) -> dict[str, Any]:
        used = [*self.before, _here(self.job)] if self._trains or not self.before else self.before
        return {"identity": self.job.identity, "values": dict(self.job.values), "trained_with": used}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        used = state_dict.get("trained_with", [UNKNOWN])
        self.before = used[:-1] if not _differing(used[-1], _here(self.job)) else used

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._trains = True  # a job whose epochs were all trained before never comes here
        here = _here(self.job)
        if differ := {key: None for before in self.before for key in _differing(before, here) if key in here}:
            words = [" ".join(f"{key}={used[key]}" for key in differ if key in used) for used in (*self.before, here)]
            begun = " and ".join(word or "unknown versions" for word in words[:-1])
            log.warning("begun with %s, goes on with %s: its bits may be those of neither", begun, words[-1])


def _differing(before: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Of what both say; dense pretraining has no criterion, whose module may be the user's own."""
    return [key for key, value in before.items() if value != here.get(key, value)] if before != UNKNOWN else [*UNKNOWN]


def _here(job: Job) -> dict[str, Any]:
    """What equal bits need, as it is now: starting processes may have changed the threads."""
    return arithmetic(job.accelerator) | dict(job.versions)


def trained_alike(checkpoint: Mapping[str, Any], job: Job) -> bool:
    """Whether all of a loaded checkpoint was trained with the arithmetic and the versions that `job` has here."""
    record = checkpoint.get("callbacks", {}).get(RecordJob.__name__, {})
    return record.get("trained_with") == [_here(job)]


def refuse_other(checkpoint: Path, job: Job) -> None:
    """Raises ValueError, with what differs, for a checkpoint of another job; one of 0.1.0 does not say whose it is."""
    saved = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)
    owner = saved.get("callbacks", {}).get(RecordJob.__name__)
    if owner and owner["identity"] != job.identity:
        differ = ", ".join(differing(replace(job, values=owner["values"]), job)) or "settings"
        raise ValueError(
            f"{checkpoint} is of another job, with other {differ}: move it to the folder of its own job, or use its "
            "weights by pretrained=PATH"
        )
