"""Averaged copies of the network that other callbacks keep and put in its place (EMA, SWA)."""

from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel

from prunelab.callbacks.neighbours import of_kind


def averages(trainer: L.Trainer, module: L.LightningModule) -> list[nn.Module]:
    """The averaged copies of `module`: each AveragedModel that a callback has as an attribute, and SWA's.

    Copies kept in another way, as in a list or in a class of one's own, are not found and stay unmasked. Raises
    ValueError for an average of something else, or inside `module`.
    """
    for name, inside in module.named_modules():
        if isinstance(inside, AveragedModel):
            raise ValueError(
                f"{type(module).__name__}.{name} is an AveragedModel inside the network, and would be pruned on its "
                "own: average with the callback EMAWeightAveraging"
            )
    names = [name for name, _ in module.named_parameters()]
    copies = list(_copies(trainer))
    for callback, copy in copies:
        if [name for name, _ in copy.named_parameters()] != names:
            raise ValueError(
                f"{type(callback).__name__} averages a {type(copy).__name__}, which masks do not reach: let it average "
                f"the whole {type(module).__name__}"
            )
    return [copy for _, copy in copies]


class TakeAverages(L.Callback):
    """At the end of fit averages are in place. Lightning does not put them there when a checkpoint leaves nothing to
    train; where it does, other callbacks may have changed the network since, and keep what they did.
    """

    _taken = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._taken = False

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._taken = True

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for average in () if self._taken else of_kind(trainer, WeightAveraging):
            average.on_train_end(trainer, pl_module)


@contextmanager
def averaged(trainer: L.Trainer, module: L.LightningModule) -> Iterator[None]:
    """With averages in place, as they are in an evaluation."""
    for average in of_kind(trainer, WeightAveraging):
        average.on_validation_epoch_start(trainer, module)
    try:
        yield
    finally:
        for average in of_kind(trainer, WeightAveraging):
            average.on_validation_epoch_end(trainer, module)


def refuse_averages(trainer: L.Trainer, beside: L.Callback, why: str) -> None:
    """Raises ValueError, with the reason, where another callback averages weights."""
    for callback, _ in _copies(trainer):
        raise ValueError(f"{type(callback).__name__} beside {type(beside).__name__}, {why}: leave out one of them")


def _copies(trainer: L.Trainer) -> Iterator[tuple[L.Callback, nn.Module]]:
    for callback in of_kind(trainer, L.Callback):
        for value in vars(callback).values():
            if isinstance(value, AveragedModel):
                yield callback, value.module
            elif isinstance(callback, StochasticWeightAveraging) and isinstance(value, L.LightningModule):
                yield callback, value
