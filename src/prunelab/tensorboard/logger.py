"""TensorBoard logger whose steps are epochs."""

from collections.abc import Mapping

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


class EpochLogger(TensorBoardLogger):
    """TensorBoard's "Step" is the epoch, from 1, as in the log and the figures; Lightning's is the optimizer step.

    For modules that log by epoch, so that jobs with different batch sizes align. Epoch 0 is before any training.
    """

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = dict(metrics)
        if (epoch := values.pop("epoch", None)) is not None:
            step = 0 if step == 0 else int(epoch) + 1
        super().log_metrics(values, step)

    @rank_zero_only
    def save(self) -> None:
        """Without Lightning's hparams.yaml, which would be empty."""
        self.experiment.flush()
