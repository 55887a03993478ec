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
    """The rank of this process, from 0, which alone writes files; known before the processes have met."""
    if devices == 1:  # whatever a launcher of other things has left in the environment
        return 0
    names = (*SET_BY_LAUNCHERS, "SLURM_PROCID") if by_srun(devices) else SET_BY_LAUNCHERS
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def quiet_others(rank: int) -> None:
    """Rank 0 says what there is to say; others would say the same once more."""
    if rank:
        logging.getLogger("prunelab").setLevel(logging.ERROR)


class CheckRanksAgree(L.Callback):
    """Checks before training that as many processes have met as there are devices, and that all train the same job.

    Raises RuntimeError where one of them would train alone, as when a sweep starts itself anew in each.
    """

    def __init__(self, identity: str, devices: int) -> None:
        self.identity = identity
        self.devices = devices

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        processes = distributed.world_size()
        if not processes == trainer.world_size == self.devices:
            raise RuntimeError(
                f"trainer.devices={self.devices}, but {processes} processes have met and Lightning counts on "
                f"{trainer.world_size}: start one job by itself, or a sweep with hydra/launcher=pool"
            )
        if len(set(distributed.gather(self.identity))) > 1:
            raise RuntimeError("the processes of this job train different ones: start it again")


def by_srun(devices: int) -> bool:
    """Whether Slurm has started a process for each of several devices."""
    return devices > 1 and os.environ.get("SLURM_STEP_NUM_TASKS") == str(devices)


def environments(devices: int) -> list[ClusterEnvironment]:
    """A plugin for the Trainer inside of Slurm, none outside.

    By itself Lightning takes every allocation for its own: it counts on one process for each of Slurm's tasks, though
    a shell in an allocation, or a batch script without srun, starts only one. And it would queue a job again at
    Slurm's signal, as submitit does.
    """
    if "SLURM_JOB_ID" not in os.environ or TorchElasticEnvironment.detect():
        return []
    if by_srun(devices):
        return [SLURMEnvironment(auto_requeue=False)]
    return [LightningEnvironment()]
