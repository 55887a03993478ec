"""Composes the configuration of a job for tests, and runs it."""

import json
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from prunelab.job.conf import conf_dir, job_of
from prunelab.job.run import run
from prunelab.store.job import Job

CONF = (Path(__file__).parent / "conf").as_uri()  # of networks that are not prunelab's


def tiny_job(images: Path) -> list[str]:
    """Overrides for 3 epochs of 7 steps on `images`, which take a second."""
    return [
        "data=image_folder", f"data.root={images}", "data.val=20", f"data.cache={images}/cache",
        f"hydra.searchpath=[{CONF}]", "model=narrow", "epochs=3", "optim.batch_size=20", "trainer=cpu", "logger=none",
        "every=1ep",
        "precision=32-true",  # on CPUs with units for bfloat16 too
    ]  # fmt: skip


def compose_job(overrides: Sequence[str], folder: Path) -> DictConfig:
    """The configuration as Hydra passes it to a job in `folder`, beside which its dense checkpoints are kept."""
    cfg = deepcopy(_composed(tuple(overrides)))
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = str(folder)
        if cfg.parents == "outputs/parents":
            cfg.parents = str(folder.parent / "parents")
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg.hydra
    return cfg


@cache
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    """Takes a quarter of a second."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


def job_from(cfg: DictConfig) -> Job:
    """The job of a configuration that `compose_job` has made last. Raises as `job_of` does."""
    return job_of(cfg, HydraConfig.get())


def run_job(overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """Runs a job; returns its result with the last checkpoint, and the weights in it as "state_dict"."""
    run(compose_job(overrides, folder))
    result = json.loads((folder / "result.json").read_text())
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return result | {"state_dict": checkpoint["state_dict"], "checkpoint": checkpoint}
