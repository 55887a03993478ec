"""Averages running statistics over the ranks of a distributed training."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging

from prunelab.callbacks.neighbours import check_first
from prunelab.core import distributed


class BufferSync(L.Callback):
    """Averages floating-point buffers over ranks after each training batch.

    Batch norm normalises with the statistics of its own rank's images; its running statistics come from all ranks.
    Averaging after every batch, not before an evaluation, makes them independent of when evaluations happen, so a
    resumed run has the same bits as an uninterrupted one. Use with DDPStrategy(broadcast_buffers=False): DDP's own
    broadcast keeps only rank 0's buffers, and hangs if ranks evaluate unequal numbers of batches.

    Raises ValueError after a callback that averages weights (EMA), which takes the buffers along.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        check_first(trainer, self, WeightAveraging, why="and would average the running statistics of its own rank")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.world_size > 1:
            distributed.average([b for b in pl_module.buffers() if b.is_floating_point()], torch.float64)
