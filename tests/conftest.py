"""Fixtures for all tests: tiny images on disk, and jobs that run in this process."""

import logging
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compose import compose_job, run_job, tiny_job
from omegaconf import DictConfig
from PIL import Image
from tensorboard.summary.writer import event_file_writer

from prunelab.job import measurements
from prunelab.job.conf import register_resolvers

register_resolvers()
Compose = Callable[..., DictConfig]
Job = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def root_log_level() -> Iterator[None]:
    """Hydra sets the level of the root logger; a test that counts log records must not depend on those before it."""
    level = logging.root.level
    yield
    logging.root.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def quick_latency() -> Iterator[None]:
    """Jobs measure latency in as few rounds as quartiles need, of few images: no test uses the numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurements, "SECONDS", 0.0)
        patch.setattr(measurements, "LEAST", 2)
        patch.setattr(measurements, "BATCHES", (1, 2))
        yield


@pytest.fixture(scope="session", autouse=True)
def event_files_in_order() -> Iterator[None]:
    """TensorBoard reads the files of one second by name, ".10" before ".9": two attempts of a job in one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(1_000_000))
        yield


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
    """Composes a job of 3 epochs of 7 steps, in `folder`."""
    tiny = [*tiny_job(tiny_images), "rerun=true"]
    return lambda *overrides, folder=None: compose_job([*tiny, *overrides], folder or tmp_path / "job")


@pytest.fixture
def job(tmp_path: Path, tiny_images: Path) -> Job:
    """Runs such a job; returns its result with the final weights as "state_dict"."""
    tiny = [*tiny_job(tiny_images), "rerun=true"]
    return lambda *overrides, folder=None: run_job([*tiny, *overrides], folder or tmp_path / "job")


@pytest.fixture(scope="session")
def usp(tiny_images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the result of `job("prune=usp", "rate=0.5")`, trained once."""
    folder = tmp_path_factory.mktemp("usp") / "job"
    return folder, run_job([*tiny_job(tiny_images), "rerun=true", "prune=usp", "rate=0.5"], folder)


@pytest.fixture
def finished(usp: tuple[Path, dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    """The same in this test's folder, as `job` would have left it."""
    shutil.copytree(usp[0], tmp_path / "job")
    return usp[1]
