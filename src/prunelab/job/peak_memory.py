"""The most memory that a training takes, over all attempts of a job."""

from typing import Any

import lightning as L

from prunelab.measure.memory import begin_training_peak, training_peak


class PeakMemory(L.Callback):
    """`bytes` at the peak of this process, on the device that it trains on; None where it cannot be measured.

    In checkpoints, as a training that resumes after surgery is one of a small network.
    """

    def __init__(self) -> None:
        self.before: int | None = 0  # at the peak of earlier attempts; None where their checkpoint does not say

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.device = trainer.strategy.root_device
        self.begun = begin_training_peak(self.device)

    @property
    def bytes(self) -> int | None:
        now = training_peak(self.device, self.begun)
        return None if now is None or self.before is None else max(now, self.before)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.before = checkpoint["callbacks"].get(self.state_key, {}).get("peak_memory")

    def state_dict(self) -> dict[str, Any]:
        return {"peak_memory": self.bytes}
