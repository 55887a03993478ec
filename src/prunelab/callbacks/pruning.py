"""Prunes while any LightningModule trains."""

from typing import Any

import lightning as L
import torch
from torch.utils.hooks import RemovableHandle

from prunelab.core.pruner import Pruner
from prunelab.core.types import Progress


class Pruning(L.Callback):
    """Drives a Pruner through one fit: masks change between two optimizer steps, never inside one.

    A pruned weight and its momentum are 0 after every step, in validation and in every checkpoint; the masks
    travel in the checkpoint. Works with gradient accumulation, clipping, mixed precision and manual
    optimization. Filter pruning needs `example_input_array` on the module when it has norms.

    Logs `sparsity/all` and `sparsity/<layer>` an epoch: the fraction of units removed.
    Raises ValueError before training for a schedule that does not fit, a net with nothing to prune, or more
    than one optimizer.
    """

    def __init__(self, pruner: Pruner) -> None:
        self.pruner = pruner
        self._hook: RemovableHandle | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            example = pl_module.example_input_array
            if isinstance(example, dict):
                raise ValueError("example_input_array is a dict: Pruning takes a tensor or a tuple of tensors")
            self.pruner.attach(pl_module, example)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Not in setup: to ask for the number of steps there would load the data too early, and a resumed run
        # would begin its epoch again.
        self.pruner.schedule.check(self._progress(trainer, step=0))
        if len(trainer.optimizers) != 1:
            names = ", ".join(type(o).__name__ for o in trainer.optimizers) or "none"
            raise ValueError(
                f"Pruning works with one optimizer, configure_optimizers returned {len(trainer.optimizers)} "
                f"({names}): put all parameters into groups of one, or train the nets in turn"
            )
        # After the step and before any on_train_batch_end, so that nothing ever sees a revived weight.
        self._hook = trainer.optimizers[0].register_step_post_hook(lambda opt, *_: self.pruner.apply(opt))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.pruner.update(self._progress(trainer, trainer.global_step)):
            self.pruner.apply(trainer.optimizers[0])

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.pruner.mask_gradients()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        counts = self.pruner.unit_counts()
        removed, units = (sum(column) for column in zip(*counts.values(), strict=True))
        pl_module.log("sparsity/all", removed / units, rank_zero_only=True)
        for name, (removed, units) in counts.items():
            pl_module.log(f"sparsity/{name.removesuffix('.weight')}", removed / units, rank_zero_only=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._unhook()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._unhook()

    def _unhook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def state_dict(self) -> dict[str, Any]:
        return self.pruner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.pruner.load_state_dict(state_dict)

    @staticmethod
    def _progress(trainer: L.Trainer, step: int) -> Progress:
        total = trainer.estimated_stepping_batches
        if total == float("inf"):
            raise ValueError("Pruning must know how long training is: set max_epochs or max_steps")
        epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        return Progress(step, int(total), max(1, epoch))
