"""The progress bar of a job: epochs from 1, and what they do to the network."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from lightning.pytorch.callbacks import RichProgressBar

from prunelab.core.pruner import Pruner
from prunelab.core.time import Progress


class PhaseBar(RichProgressBar):
    """Lightning's, which also names the phase: `dense` before the first pruning, `pruning`, then `retraining`."""

    def __init__(self, pruners: Sequence[Pruner] = ()) -> None:
        super().__init__()
        self.pruners = pruners

    def refresh(self, hard: bool = False) -> None:
        with suppress(OSError):  # a terminal that is gone ends no training
            super().refresh(hard)

    def _stop_progress(self) -> None:
        with suppress(OSError):
            super()._stop_progress()

    def _get_train_description(self, current_epoch: int) -> str:
        epochs, steps = self.trainer.max_epochs or 0, int(self.trainer.num_training_batches)
        run = Progress(current_epoch * steps, epochs * steps, steps)
        named = next((f", {phase(pruner, run)}" for pruner in self.pruners), "")
        return f"epoch {current_epoch + 1} of {epochs}{named}".ljust(len(self.validation_description))


def phase(pruner: Pruner, p: Progress) -> str:
    """What the epoch that begins at `p` is: nothing is pruned yet, more is pruned in it, or what is left trains on."""
    before = pruner.schedule(replace(p, step=max(p.step - 1, 0))) or 0.0
    after = pruner.schedule(replace(p, step=min(p.step + p.epoch, p.total) - 1)) or 0.0
    return "pruning" if after > before else "retraining" if before else "dense"
