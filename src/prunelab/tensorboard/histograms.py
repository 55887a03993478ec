"""How are the weights distributed that are left, by value and over the filters?"""

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from prunelab.core.prunable import layer_weights

BINS = 30  # as many as TensorBoard draws


class Distributions(L.Callback):
    """Histograms for TensorBoard at the end of `times` of the `max_epochs` at most, evenly spread, the last among them.

    Where `max_epochs` leaves open how many there will be (-1), at the end of each; a training that ends earlier, as by
    `max_steps`, has fewer.
    Of each layer that can be pruned: `weights/<layer>`, the values of the weights that are not 0; and where the filters
    that are left differ `weights_by_filter/<layer>`, the fractions of their weights that are left, which say whether
    pruning single weights empties whole filters. Over epochs, from 1. Goes to every TensorBoardLogger of the Trainer,
    from rank 0; where there is none nothing is done. It only reads: training keeps its bits and its random numbers.
    """

    def __init__(self, times: int = 10) -> None:
        self.times = times

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        epoch = trainer.current_epoch + 1
        if not boards or not trainer.is_global_zero or not self._due(epoch, trainer.max_epochs or -1):
            return
        for name, weight in layer_weights(pl_module).items():
            layer, values = name.removesuffix(".weight"), weight.detach().float().cpu()
            density = (values != 0).flatten(1).float().mean(1)  # (out,)
            shown = {f"weights/{layer}": values[(values != 0) & values.isfinite()]}
            if density[density > 0].unique().numel() > 1:
                shown[f"weights_by_filter/{layer}"] = density
            for board in boards:
                for tag, of in shown.items():
                    _write(board, tag, of, epoch)

    def _due(self, epoch: int, epochs: int) -> bool:
        return epochs < 0 or epoch * self.times // epochs > (epoch - 1) * self.times // epochs


def _write(board: TensorBoardLogger, tag: str, values: Tensor, epoch: int) -> None:
    """Counts in equal bins between the smallest and the largest value."""
    if not values.numel():
        return
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    board.experiment.add_histogram_raw(
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
