"""Checkpoints know their job: training resumes from none of another."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch

from prunelab.store.job import Job, differing


class RecordJob(L.Callback):
    """Keeps in each checkpoint which job wrote it."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def state_dict(self) -> dict[str, Any]:
        return {"identity": self.job.identity, "values": dict(self.job.values)}


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
