"""Histograms of the non-zero weights, by value and by filter, for TensorBoard."""

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from prunelab.core.network.filters import by_filter, transposed_groups
from prunelab.core.network.prunable import layer_weights

BINS = 30  # as many as TensorBoard draws


class Distributions(L.Callback):
    """Logs histograms at the end of at most `times` of the `max_epochs`, evenly spread, including the last.

    With an open number of epochs (`max_epochs=-1`), at the end of each; training that ends early logs fewer.
    For each prunable layer: `weights/<layer>`, the values of its non-zero weights; and, where filters differ,
    `weights_by_filter/<layer>`, the fractions of weights left in its filters, which show whether pruning
    single weights empties whole ones. Steps are epochs, from 1. Logs from rank 0 to every TensorBoardLogger of the
    Trainer. Only reads: training is the same to the bit, as are random numbers.
    """

    def __init__(self, times: int = 10) -> None:
        self.times = times

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        epoch = trainer.current_epoch + 1
        if not loggers or not trainer.is_global_zero or not self._due(epoch, trainer.max_epochs or -1):
            return
        transposed = transposed_groups(pl_module)
        for name, weight in layer_weights(pl_module).items():
            layer, values = name.removesuffix(".weight"), weight.detach().float().cpu()
            filters = by_filter(values != 0, transposed.get(name)).flatten(0, 1)
            density = filters.flatten(1).float().mean(1)  # (out,)
            histograms = {f"weights/{layer}": values[(values != 0) & values.isfinite()]}
            if density[density > 0].unique().numel() > 1:
                histograms[f"weights_by_filter/{layer}"] = density
            for logger in loggers:
                for tag, numbers in histograms.items():
                    _write(logger, tag, numbers, epoch)

    def _due(self, epoch: int, epochs: int) -> bool:
        return epochs < 0 or epoch * self.times // epochs > (epoch - 1) * self.times // epochs


def _write(logger: TensorBoardLogger, tag: str, values: Tensor, epoch: int) -> None:
    """Counts in equal bins between the smallest and the largest value."""
    if not values.numel():
        return
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    logger.experiment.add_histogram_raw(
        tag,
        min=low,
        max=high,
        num=values.numel(),
        sum=float(values.sum()),
        sum_squares=float(values.square().sum()),
        bucket_limits=torch.linspace(low, high, BINS + 1)[1:].tolist(),
        bucket_counts=torch.histc(values, BINS, low, high).tolist(),
        global_step=epoch,
    )
