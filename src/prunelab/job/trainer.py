"""The Lightning Trainer of a job."""

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, Strategy

from prunelab.callbacks.pruning import Pruning
from prunelab.job.own_checkpoint import RecordJob
from prunelab.job.processes import environments
from prunelab.lit.buffer_sync import BufferSync
from prunelab.lit.checkpoints import AtomicCheckpointIO, Checkpoints
from prunelab.lit.device import choose_kernels, expected_device, warn_of_slow_bfloat16
from prunelab.lit.history import History
from prunelab.lit.idle_hooks import NoProfiler, skip_idle_hooks
from prunelab.lit.progress import PhaseBar
from prunelab.lit.rng_state import RngState
from prunelab.store.folder import RunDir
from prunelab.store.job import Job
from prunelab.store.signals import Interrupted, StopRequest
from prunelab.tensorboard.histograms import Distributions
from prunelab.tensorboard.logger import EpochLogger, end_runs


def make_trainer(
    job: Job,
    folder: RunDir,
    callbacks: list[L.Callback],
    epochs: int,
    stop: StopRequest,
    start: Path | None,
    on_start: Callable[[], None],
) -> L.Trainer:
    """The Trainer of `conf/trainer`, with what every job adds.

    Training resumes from the checkpoint `start`. Rank 0 calls `on_start` when training is sure to begin.
    """
    choose_kernels(expected_device(job.accelerator))  # trainer.deterministic and trainer.benchmark override it
    warn_of_slow_bfloat16(job.accelerator, job.values["precision"])
    for part in ("pytorch", "fabric"):  # the device report, which every job of a sweep would repeat
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)  # Lightning 2.6, torch 2.15
    warnings.filterwarnings("ignore", "The `srun` command is available", UserWarning)  # one process needs no srun
    # A job that resumes from shared dense pretraining has other callbacks, in another folder.
    warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint need to be provided", UserWarning)
    warnings.filterwarnings("ignore", "The dirpath has changed from", UserWarning)
    # Steps are counted over all epochs.
    warnings.filterwarnings("ignore", ".*is smaller than the logging interval", UserWarning)
    # Logged values are equal on all ranks: torchmetrics has summed over them.
    warnings.filterwarnings("ignore", ".*when logging on epoch level in distributed setting", UserWarning)
    warnings.filterwarnings("ignore", ".*broadcast_buffers.* is deprecated", FutureWarning)  # torch 2.13; 2.6 needs it
    checkpoints = Checkpoints(folder.checkpoint.parent, job.config["every"], lambda: bool(stop), Interrupted)

    def begin(trainer: L.Trainer, module: L.LightningModule) -> None:
        stop.listen()  # Lightning has replaced our handlers
        if trainer.is_global_zero:
            on_start()

    # A job logs nothing at a step, but Lightning's callbacks and the user's may.
    defaults = {"profiler": NoProfiler(), "log_every_n_steps": 50 if job.config.get("callbacks") else 0}
    trainer: L.Trainer = instantiate(
        defaults | job.config["trainer"],
        strategy=_strategy(job.devices),
        use_distributed_sampler=False,  # each rank selects its share itself
        max_epochs=epochs,
        precision=job.values["precision"],
        callbacks=[
            BufferSync(),
            *callbacks,
            Distributions(),
            RngState(),
            LambdaCallback(
                on_train_start=begin,
                on_validation_start=lambda *_: stop.listen(),
                on_exception=lambda trainer, *_: end_runs(trainer.loggers),
            ),
            checkpoints,
            *([PhaseBar([c.pruner for c in callbacks if isinstance(c, Pruning)])] if sys.stderr.isatty() else []),
        ],
        logger=_loggers(job, start, epochs),
        plugins=[AtomicCheckpointIO(), *environments(job.devices)],
        default_root_dir=folder.path,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
    )
    skip_idle_hooks(trainer)
    return trainer


def _strategy(devices: int) -> str | Strategy:
    """No DDP on one device, even with trainer=ddp: the network may shrink, which DDP cannot follow."""
    return DDPStrategy(broadcast_buffers=False) if devices > 1 else "auto"  # BufferSync does it


def _loggers(job: Job, start: Path | None, epochs: int) -> list[Logger]:
    """The job's loggers; its own purges events after the checkpoint `start`, which are logged again."""
    loggers: list[Logger] = []
    for logger in job.loggers:
        own = logger["_target_"].endswith("EpochLogger")
        loggers.append(instantiate(logger, **({"purge_step": _first_step(job, start)} if own and start else {})))
        if isinstance(loggers[-1], EpochLogger):
            loggers[-1].trains = epochs > 0
        if not own:  # HParams are written at the end, with the results
            loggers[-1].log_hyperparams(dict(job.settings))
    return loggers


def _first_step(job: Job, start: Path) -> int:
    """The first epoch that is logged after the checkpoint `start`: all, where that is another job's."""
    callbacks = torch.load(start, map_location="cpu", mmap=True, weights_only=True)["callbacks"]
    own = callbacks.get(RecordJob.__name__, {}).get("identity", job.identity) == job.identity
    return len(callbacks[History().state_key]["epochs"]) + 1 if own else 1
