"""Checks the settings of the launcher, before data are loaded and anything is submitted."""

from collections.abc import Mapping
from math import ceil
from typing import Any

import submitit
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from omegaconf import OmegaConf

from prunelab.core.text.unknown import nearest

SHARED = frozenset(map(str, OmegaConf.structured(BaseQueueConf)))  # by submitit's launchers; others are Slurm's alone
KNOWN = sorted({*SHARED, *submitit.SlurmExecutor._valid_parameters(), "python", "max_num_timeout", "_target_"})
LEAST = {
    "array_parallelism": 1,
    "timeout_min": 1,
    "signal_delay_s": 1,
    "max_num_timeout": 0,
    "nodes": 1,
    "tasks_per_node": 1,
    "gpus_per_node": 0,
    "cpus_per_task": 1,
}
LISTS = ("setup", "teardown", "srun_args")


def check(settings: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the value and the remedy."""
    for key, value in settings.items():
        name = f"hydra.launcher.{key}"
        if key not in KNOWN:
            near = [f"did you mean hydra.launcher.{other}?" for other in nearest(key, KNOWN, most=1)]
            sbatch = f"an option of sbatch is +hydra.launcher.additional_parameters.{key.replace('_', '-')}"
            raise ValueError("; ".join([f"{name}: there is no such setting", *near, sbatch]))
        if value is None or (key, value) == ("gpus_per_node", "auto"):
            continue
        if key in LEAST and (type(value) is not int or value < LEAST[key]):
            raise ValueError(f"{name}={value}: expected a whole number of at least {LEAST[key]}")
        if key == "mem_gb" and (type(value) not in (int, float) or value < 0):
            raise ValueError(f"{name}={value}: expected a number of gigabytes")
        if key in LISTS and not isinstance(value, list):
            raise ValueError(f"""{name}={value}: expected a list; write {name}='["{value}"]'""")
    limit, delay = settings.get("timeout_min"), settings.get("signal_delay_s")
    if limit is None or delay is None:
        raise ValueError("hydra.launcher.timeout_min and signal_delay_s: without both no job ends in time; give them")
    if 60 * limit < 2 * delay:
        raise ValueError(
            f"hydra.launcher.timeout_min={limit} with signal_delay_s={delay}: a job would be told to end as soon as it "
            f"starts; give at least {ceil(2 * delay / 60)} minutes, or a shorter delay"
        )
