"""With which Lightning Trainer does a job run?"""

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
from omegaconf import DictConfig

from prunelab.job.processes import environments
from prunelab.lit.buffer_sync import BufferSync
from prunelab.lit.checkpoints import AtomicCheckpointIO, Checkpoints
from prunelab.lit.device import expected_device
from prunelab.lit.history import History
from prunelab.lit.rng_state import RngState
from prunelab.store.folder import RunDir
from prunelab.store.signals import Interrupted, StopRequest
from prunelab.tensorboard.histograms import Distributions


def make_trainer(
    cfg: DictConfig,
    folder: RunDir,
    precision: str,
    callbacks: list[L.Callback],
    epochs: int,
    stop: StopRequest,
    start: Path | None,
    on_start: Callable[[], None],
) -> L.Trainer:
    """`conf/trainer` completed with what every job has.

    It will go on from the checkpoint `start`. `on_start` is called when training is sure to begin, by rank 0.
    """
    if expected_device(cfg.trainer.accelerator).type == "cuda":
        torch.set_float32_matmul_precision("high")
    for part in ("pytorch", "fabric"):  # its device report, in every job of a sweep
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)  # Lightning 2.6, torch 2.15
    warnings.filterwarnings("ignore", "The `srun` command is available", UserWarning)  # a job of one process is right
    # A job that begins with the dense training of another: it has other callbacks, in another folder.
    warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint need to be provided", UserWarning)
    warnings.filterwarnings("ignore", "The dirpath has changed from", UserWarning)
    # What is logged is equal on all ranks: torchmetrics has summed up over them.
    warnings.filterwarnings("ignore", ".*when logging on epoch level in distributed setting", UserWarning)
    warnings.filterwarnings("ignore", ".*broadcast_buffers.* is deprecated", FutureWarning)  # torch 2.13; 2.6 needs it
    checkpoints = Checkpoints(folder.checkpoint.parent, cfg.every, lambda: bool(stop), Interrupted)

    def begin(trainer: L.Trainer, module: L.LightningModule) -> None:
        stop.listen()  # Lightning has put handlers of its own before ours
        if trainer.is_global_zero:
            on_start()

    trainer: L.Trainer = instantiate(
        cfg.trainer,
        strategy=_strategy(cfg.trainer.devices),
        use_distributed_sampler=False,  # each rank knows its share itself
        max_epochs=epochs,
        precision=precision,
        callbacks=[
            *callbacks,
            Distributions(),
            RngState(),
            BufferSync(),
            LambdaCallback(on_train_start=begin, on_validation_start=lambda *_: stop.listen()),
            checkpoints,
        ],
        logger=_logger(cfg, start),
        plugins=[AtomicCheckpointIO(), *environments(cfg.trainer.devices)],
        default_root_dir=folder.path,
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # nothing is logged at a step; Lightning warns when an epoch is shorter than this
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
    )
    return trainer


def _strategy(devices: int) -> str | Strategy:
    """One device is the same job under trainer=ddp, also where the net becomes smaller, which DDP does not follow."""
    return DDPStrategy(broadcast_buffers=False) if devices > 1 else "auto"  # BufferSync does it otherwise


def _logger(cfg: DictConfig, start: Path | None) -> Logger | bool:
    """In TensorBoard nothing is shown twice that was logged after the checkpoint a job goes on from."""
    if not cfg.get("logger"):
        return False
    if start is None or not cfg.logger._target_.endswith("EpochLogger"):
        return instantiate(cfg.logger)
    callbacks = torch.load(start, map_location="cpu", mmap=True, weights_only=True)["callbacks"]
    return instantiate(cfg.logger, purge_step=len(callbacks[History().state_key]["epochs"]) + 1)
