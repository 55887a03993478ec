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


class RecordJob(L.Callback):
    """Keeps in each checkpoint which job wrote it, and by which arithmetic it was trained."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._used = [arithmetic(job.accelerator)]

    def state_dict(self) -> dict[str, Any]:
        return {"identity": self.job.identity, "values": dict(self.job.values), "arithmetic": self._used}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        here, before = self._used[-1], state_dict.get("arithmetic", [])
        if before and before != [here]:
            earlier = " and ".join(map(_words, before))
            log.warning("begun with %s, goes on with %s: its bits will be those of neither", earlier, _words(here))
        self._used = [used for used in before if used != here] + [here]


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
