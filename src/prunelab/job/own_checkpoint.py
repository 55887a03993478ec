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
UNKNOWN = {"device": "unknown"}  # of checkpoints that do not say


class RecordJob(L.Callback):
    """Keeps in each checkpoint which job wrote it, and with which arithmetic and versions it was trained.

    `before` has those of earlier attempts, of a training that this one goes on from too, where they were others.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.before: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        used = [*(before for before in self.before if before != _here(self.job)), _here(self.job)]
        return {"identity": self.job.identity, "values": dict(self.job.values), "trained_with": used}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        here, before = _here(self.job), state_dict.get("trained_with", [UNKNOWN])
        self.before = [earlier for earlier in before if earlier != here]
        if self.before not in ([], [UNKNOWN]):
            differ = [key for key in here if any(earlier.get(key) != here[key] for earlier in self.before)]
            words = [" ".join(f"{key}={used.get(key)}" for key in differ) for used in (*self.before, here)]
            begun = " and ".join(words[:-1])
            log.warning("begun with %s, goes on with %s: its bits may be those of neither", begun, words[-1])


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
