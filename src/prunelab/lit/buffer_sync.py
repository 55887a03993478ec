"""Which running statistics does a net have that several processes train?"""

from typing import Any

import lightning as L
import torch

from prunelab.core import distributed


class BufferSync(L.Callback):
    """After each batch of training, buffers are averaged over ranks: evaluation and checkpoints see one net.

    Batch norm normalises by the statistics of its own rank's images; the running ones it keeps come from all of
    them. Averaged each time rather than before an evaluation, they do not depend on when somebody looks, so a
    resumed run has the bits of one that was never stopped. Meant for DDPStrategy(broadcast_buffers=False): DDP's own
    broadcast keeps rank 0's alone, and hangs where ranks evaluate unequal numbers of batches.
    """

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.world_size > 1:
            distributed.average([b for b in pl_module.buffers() if b.is_floating_point()], torch.float64)
