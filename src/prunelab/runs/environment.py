"""Who has started the processes of a job: Slurm, another launcher, or is it to be Lightning?"""

import os

from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)


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
