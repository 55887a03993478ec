"""Sweeps in a real Slurm: arrays, GPUs, jobs that fail, are killed, preempted or too slow, and commands that are."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from single_node import SingleNode

pytestmark = pytest.mark.cluster
LAUNCHER = ["-m", "hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "name=tiny", "prune=usp"]


@pytest.fixture
def tiny(tiny_images: Path) -> list[str]:
    where = ["data=image_folder", f"data.root={tiny_images}", "data.val=20", f"data.cache={tiny_images}/cache"]
    return [*where, "model=resnet8", "epochs=2", "optim.batch_size=20", "trainer=cpu", "logger=none", "rate=0.5"]


def start(node: SingleNode, cwd: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "train", *args],
        cwd=cwd,
        env=node.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(command: subprocess.Popen[str]) -> str:
    said, _ = command.communicate(timeout=200)
    return said


def folders(cwd: Path) -> list[Path]:
    return sorted((cwd / "outputs" / "tiny").glob("prune=*"))


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def until(done: Callable[[], Any], seconds: float = 90) -> Any:
    end = time.monotonic() + seconds
    while not (there := done()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)
    return there


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


def test_a_sweep_is_an_array_and_each_job_has_a_gpu_of_its_own(idle: SingleNode, tiny: list[str], tmp_path: Path) -> None:
    gpus = ["hydra.launcher.gpus_per_node=1", "hydra.launcher.setup=['echo gpu $CUDA_VISIBLE_DEVICES']"]
    command = start(idle, tmp_path, *LAUNCHER, *gpus, *tiny, "epochs=1", "seed=0,1,2,3")
    said = finish(command)
    assert command.returncode == 0, said
    tickets = [read(folder / ".slurm.json") for folder in folders(tmp_path)]
    assert all((folder / "result.json").exists() for folder in folders(tmp_path))
    arrays = [ticket["job"].partition("_")[::2] for ticket in tickets]
    assert len({array for array, _ in arrays}) == 1
    assert [index for _, index in arrays] == ["0", "1", "2", "3"]
    seen = {line for ticket in tickets for line in Path(ticket["output"]).read_text().splitlines() if "gpu " in line}
    assert len(seen) == 4, seen
