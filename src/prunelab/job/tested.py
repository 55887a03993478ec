"""The network that is measured is the one that was tested, and what is masked is 0 in it."""

from collections.abc import Sequence

import lightning as L
from torch import nn

from prunelab.callbacks.averages import TakeAverages
from prunelab.core.pruner import Pruner
from prunelab.measure.sparsity import nonzero_counts, refuse_nonzero


class Tested(TakeAverages):
    """Looks at the weights while they are evaluated, when an average (EMA) may stand in their place.

    Raises RuntimeError where a weight that one of `pruners` has masked is not 0.
    """

    def __init__(self, pruners: Sequence[Pruner]) -> None:
        self.pruners = pruners
        self.nonzero: dict[str, int] | None = None  # by layer, in the last evaluation

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx == dataloader_idx == 0:
            self._refuse_nonzero(pl_module)
            self.nonzero = nonzero_counts(pl_module)

    def _refuse_nonzero(self, module: nn.Module) -> None:
        for pruner in self.pruners:
            refuse_nonzero(module, pruner.masks)

    def check(self, module: nn.Module) -> None:
        """Raises RuntimeError where the weights that training ended with are not those of the last evaluation."""
        self._refuse_nonzero(module)
        now, tested = nonzero_counts(module), self.nonzero
        for name in tested or {}:  # none when a checkpoint leaves nothing to train
            if tested and now.get(name, 0) != tested[name]:
                raise RuntimeError(
                    f"{name} had {tested[name]} weights that are not 0 when it was tested, and has {now.get(name, 0)}: "
                    "another network was tested; leave out callbacks that change weights after the last evaluation"
                )
