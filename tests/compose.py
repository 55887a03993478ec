"""Composes the configuration of a job for tests."""

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from prunelab.job.conf import conf_dir, job_of
from prunelab.store.job import Job


def tiny_job(images: Path) -> list[str]:
    """Overrides for 3 epochs of 7 steps on `images`, which take a second."""
    return [
        "data=image_folder", f"data.root={images}", "data.val=20", f"data.cache={images}/cache",
        "model=resnet8", "epochs=3", "optim.batch_size=20", "trainer=cpu", "logger=none", "every=1ep",
        "precision=32-true",  # on CPUs with units for bfloat16 too
    ]  # fmt: skip


def compose_job(overrides: Sequence[str], folder: Path) -> DictConfig:
    """The configuration as Hydra passes it to a job in `folder`."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", list(overrides), return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = str(folder)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg.hydra
    return cfg


def job_from(cfg: DictConfig) -> Job:
    """The job of a configuration that `compose_job` has made last. Raises as `job_of` does."""
    return job_of(cfg, HydraConfig.get())
