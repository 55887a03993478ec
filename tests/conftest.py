"""What do many tests need? A tiny study on disk, and jobs run in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict
from PIL import Image

from prunelab.runs.folders import conf_dir, register_resolvers
from prunelab.runs.job import run

register_resolvers()
Compose = Callable[..., DictConfig]
Job = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes of noise, 16 training and 4 test images each, around a colour of their own."""
    root = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 4)):
        for label in range(10):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            colour = np.random.default_rng(label).integers(60, 190, (1, 1, 3))
            for i in range(count):
                pixels = np.clip(colour + rng.normal(0, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture
def composed(tmp_path: Path, tiny_images: Path) -> Compose:
    """The configuration of a job of 3 epochs of 7 steps, which takes a second; `folder` becomes its own."""

    def make(*overrides: str, folder: Path | None = None) -> DictConfig:
        tiny = [
            "data=image_folder", f"data.root={tiny_images}", "data.val=20", f"data.cache={tiny_images}/cache",
            "model=resnet8", "epochs=3", "optim.batch_size=20", "trainer=cpu", "logger=none", "every=1ep",
            f"parents={tmp_path}/parents",
        ]  # fmt: skip
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = compose("train", [*tiny, *overrides], return_hydra_config=True)
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir = str(folder or tmp_path / "job")
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg.hydra
        return cfg

    return make


@pytest.fixture
def job(composed: Compose, tmp_path: Path) -> Job:
    """Runs a job; returns its result with the final weights under "state_dict"."""

    def do(*overrides: str, folder: Path | None = None) -> dict[str, Any]:
        where = folder or tmp_path / "job"
        run(composed(*overrides, folder=where))
        result = json.loads((where / "result.json").read_text())
        saved = torch.load(where / "checkpoints" / "last.ckpt", weights_only=True)
        return result | {"state_dict": saved["state_dict"], "checkpoint": saved}

    return do
