"""Fixtures for all tests: tiny images on disk, and jobs that run in this process."""

import json
import logging
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compose import compose_job, tiny_job
from omegaconf import DictConfig
from PIL import Image

from prunelab.job import measurements
from prunelab.job.conf import register_resolvers
from prunelab.job.run import run

register_resolvers()
Compose = Callable[..., DictConfig]
Job = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def root_log_level() -> Iterator[None]:
    """Hydra sets the level of the root logger; a test that counts log records must not depend on those before it."""
    level = logging.root.level
    yield
    logging.root.setLevel(level)


@pytest.fixture(autouse=True)
def quick_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs measure latency in as few rounds as quartiles need: no test uses the numbers."""
    monkeypatch.setattr(measurements, "SECONDS", 0.0)
    monkeypatch.setattr(measurements, "LEAST", 2)


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes of noise around a colour per class, with 16 training and 4 test images each."""
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


@pytest.fixture(scope="session")
def trained(tiny_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a job of one epoch, run once for all tests: they read it, or copy it."""
    from prunelab.job.run import run

    @cache
    def run_once(*overrides: str) -> Path:
        folder = tmp_path_factory.mktemp("trained") / "job"
        run(compose_job([*tiny_job(tiny_images), "model=resnet8", "epochs=1", *overrides], folder))
        return folder

    return run_once


@pytest.fixture
def composed(tmp_path: Path, tiny_images: Path) -> Compose:
    """Composes a job of 3 epochs of 7 steps, which takes a second to run in `folder`."""

    def make(*overrides: str, folder: Path | None = None) -> DictConfig:
        overrides = (*tiny_job(tiny_images), f"parents={tmp_path}/parents", *overrides)
        return compose_job(overrides, folder or tmp_path / "job")

    return make


@pytest.fixture
def job(composed: Compose, tmp_path: Path) -> Job:
    """Runs a job; returns its result with the final weights as "state_dict"."""

    def run_job(*overrides: str, folder: Path | None = None) -> dict[str, Any]:
        folder = folder or tmp_path / "job"
        run(composed(*overrides, folder=folder))
        result = json.loads((folder / "result.json").read_text())
        checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        return result | {"state_dict": checkpoint["state_dict"], "checkpoint": checkpoint}

    return run_job
