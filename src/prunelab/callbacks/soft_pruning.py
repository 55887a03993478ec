"""Soft filter pruning (He et al. 2018): each epoch the smallest filters are set to 0, and may come back."""

from dataclasses import replace
from typing import Any

import lightning as L
import torch

from prunelab.callbacks.neighbours import check_first, is_last_pruning_ahead, only
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.scoring import progress, steps_done
from prunelab.channels.units import PrunableStructure, prunable_structure
from prunelab.core.pruner import Pruner
from prunelab.core.types import Masks


class SoftPruning(L.Callback):
    """After each epoch sets to 0 the filters that the Pruning callback would remove now; then they train on.

    Until its last pruning, which removes filters for good; at its final rate, by its criterion. Only the weights that
    make a channel are set to 0, not its norm or its readers, through which the gradient revives it. Momentum stays.
    With a rate of 0 nothing is done. It has no state: epochs begin at known steps, also in a resumed run.

    Listed before the Pruning, whose units must be channels. Raises ValueError before training for anything else, and
    where everything is pruned before the first step.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pruner = self._pruner(trainer)
        _channels(pruner)
        is_last_pruning_ahead(pruner, progress(trainer, 0), "no filter is pruned softly by then")

    def _pruner(self, trainer: L.Trainer) -> Pruner:
        pruning = only(trainer, Pruning, beside=self)
        if pruning is None:
            raise ValueError("SoftPruning works beside one Pruning callback, there is none: add it")
        check_first(trainer, self, Pruning, why="which removes filters before they are chosen")
        return pruning.pruner

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        pruner, run = self._pruner(trainer), progress(trainer, steps_done(trainer))
        first = run.step % run.epoch == 0 and batch_idx % trainer.accumulate_grad_batches == 0
        if not first or run.step == 0 or pruner.rate >= (final := pruner.schedule(replace(run, step=run.total)) or 0.0):
            return
        _set_to_zero(pl_module, _channels(pruner), pruner.masks_at(final))


def _channels(pruner: Pruner) -> PrunableStructure:
    units = prunable_structure(pruner.granularity)
    if units is None or not units.makers:
        kind = type(pruner.granularity).__name__
        raise ValueError(f"soft pruning is of channels, units are of kind {kind}: use prune/granularity=filter")
    return units


def _set_to_zero(net: L.LightningModule, units: PrunableStructure, keep: Masks) -> None:
    gone = torch.cat([units.numbers[group][~kept.cpu()] for group, kept in keep.items()])
    for (name, axis), numbers in units.places.items():
        if name in units.makers and units.makes((name, axis)):
            weight = net.get_parameter(name)
            weight.data.movedim(axis, 0)[torch.isin(numbers, gone).to(weight.device)] = 0
