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
UNKNOWN = [{"device": "unknown"}]  # of checkpoints that do not say


class RecordJob(L.Callback):
    """Keeps in each checkpoint which job wrote it, and by which arithmetic it was trained."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._before: list[dict[str, Any]] = []  # until the last resume

    def state_dict(self) -> dict[str, Any]:
        here = arithmetic(self.job.accelerator)  # now: starting processes may have changed the threads
        used = [*(before for before in self._before if before != here), here]
        return {"identity": self.job.identity, "values": dict(self.job.values), "arithmetic": used}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        here = arithmetic(self.job.accelerator)
        self._before = state_dict.get("arithmetic", UNKNOWN)
        if self._before not in ([here], UNKNOWN):
            earlier = " and ".join(map(_words, self._before))
            log.warning("begun with %s, goes on with %s: its bits will be those of neither", earlier, _words(here))


def _words(used: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in used.items())


def trained_alike(checkpoint: Mapping[str, Any], job: Job) -> bool:
    """Whether all of a loaded checkpoint was trained by the arithmetic that `job` has here."""
    record = checkpoint.get("callbacks", {}).get(RecordJob.__name__, {})
    return record.get("arithmetic") == [arithmetic(job.accelerator)]


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
