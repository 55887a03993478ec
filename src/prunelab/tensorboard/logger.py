"""How do a job's scalars stand in TensorBoard?"""

from collections.abc import Mapping

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


class EpochLogger(TensorBoardLogger):
    """TensorBoard's "Step" is the epoch, from 1, as in the log and the figures; Lightning's is the optimizer's step.

    For modules that log by epoch: jobs of other batch sizes stand above one another, and no chart shows the epochs.
    What is logged before any training is of epoch 0.
    """

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = dict(metrics)
        if (epoch := values.pop("epoch", None)) is not None:
            step = 0 if step == 0 else int(epoch) + 1
        super().log_metrics(values, step)

    @rank_zero_only
    def save(self) -> None:
        """Without Lightning's hparams.yaml, which would say `{}`."""
        self.experiment.flush()
