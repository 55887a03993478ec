"""The processes of a job that trains on several devices, and what started them: Slurm, a launcher or Lightning."""

import logging
import os

import lightning as L
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from prunelab.core import distributed

SET_BY_LAUNCHERS = ("RANK", "LOCAL_RANK")  # torchrun, Lightning; on one node


def rank_of(devices: int) -> int:
    """The rank of this process, from 0, which alone writes files; known before they connect."""
    if devices == 1:  # ignores variables that some other launcher has set
        return 0
    names = (*SET_BY_LAUNCHERS, "SLURM_PROCID") if by_srun(devices) else SET_BY_LAUNCHERS
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def quiet_others(rank: int) -> None:
    """Silences the log of all ranks but 0, which would repeat it."""
    if rank:
        logging.getLogger("prunelab").setLevel(logging.ERROR)


class CheckRanksAgree(L.Callback):
    """Checks before training that there is one process per device, and that all train the same job.

    Raises RuntimeError where one of them would train alone, as when a sweep starts again in each.
    """

    def __init__(self, identity: str, devices: int) -> None:
        self.identity = identity
        self.devices = devices

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        processes = distributed.world_size()
        if not processes == trainer.world_size == self.devices:
            raise RuntimeError(
                f"trainer.devices={self.devices}, but {processes} processes are connected and Lightning expects "
                f"{trainer.world_size}: start one job by itself, or a sweep with hydra/launcher=pool"
            )
        if len(set(distributed.gather(self.identity))) > 1:
            raise RuntimeError("the processes train different jobs: start this job again")


def by_srun(devices: int) -> bool:
    """Whether Slurm has started a process for each of several devices."""
    return devices > 1 and os.environ.get("SLURM_STEP_NUM_TASKS") == str(devices)


def environments(devices: int) -> list[ClusterEnvironment]:
    """A plugin for the Trainer inside a Slurm allocation, none outside.

    By default Lightning expects one process for each task of the allocation, though a shell in an allocation, or a
    batch script without srun, starts only one. It would also requeue a job at Slurm's signal, as submitit does.
    """
    if "SLURM_JOB_ID" not in os.environ or TorchElasticEnvironment.detect():
        return []
    if by_srun(devices):
        return [SLURMEnvironment(auto_requeue=False)]
    return [LightningEnvironment()]
