"""How far is a Trainer, in optimizer steps?"""

from math import inf

import lightning as L

from prunelab.core.types import Progress


def progress(trainer: L.Trainer, step: int) -> Progress:
    """`step` of the trainer's run. Raises ValueError for a run without an end."""
    total = trainer.estimated_stepping_batches
    if not 0 < total < inf:
        raise ValueError("Pruning must know how long training is: set max_epochs or max_steps")
    batches = trainer.num_training_batches
    epoch = total if batches == inf else -(-batches // trainer.accumulate_grad_batches)
    return Progress(step, int(total), max(1, int(epoch)))
