"""TensorBoard logger whose steps are epochs."""

import re
from collections.abc import Iterable, Mapping

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


def log_outcome(loggers: Iterable[Logger], outcome: Mapping[str, float], step: int) -> None:
    """Gives the results of a job to its loggers, and ends their runs; ours has the page HParams for results."""
    plain = {f"result/{re.sub('[()]', '', name)}": value for name, value in outcome.items()}  # MLflow wants no brackets
    for logger in loggers:
        if not isinstance(logger, EpochLogger):
            logger.log_metrics(plain, step)
            logger.save()
    end_runs(loggers)


def end_runs(loggers: Iterable[Logger]) -> None:
    """Ends the runs of Weights & Biases: the next job of a sweep would go on in them."""
    for logger in loggers:
        run = None if isinstance(logger, EpochLogger) else getattr(logger, "experiment", None)
        if finish := getattr(run, "finish", None):
            finish()


class EpochLogger(TensorBoardLogger):
    """TensorBoard's "Step" is the epoch, from 1, as in the log and the figures; Lightning's is the optimizer step.

    For modules that log by epoch, so that jobs with different batch sizes align. Epoch 0 is before any training.
    """

    trains = True  # else all is of epoch 0

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = dict(metrics)
        if (epoch := values.pop("epoch", None)) is not None:
            step = int(epoch) + self.trains
        super().log_metrics(values, step)

    @rank_zero_only
    def save(self) -> None:
        """Without Lightning's hparams.yaml, which would be empty."""
        self.experiment.flush()
