"""A sweep whose launcher or jobs are killed at any point ends in the bits of an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from compose import tiny_job
from forked import killed, train

from prunelab.store.lock import holder, is_held

METHODS = ("usp", "sp", "lottery", "rigl", "dsss")
TIMES = ("seconds", "spent", "cpu_seconds", "cpu_spent", "latency", "timed", "peak_memory")


@pytest.fixture(scope="session")
def command(tiny_images: Path) -> list[str]:
    """Two epochs of 70 steps each, so that rigl exchanges once; two rounds of lottery."""
    return [
        sys.executable, "-m", "train", "-m", f"prune={','.join(METHODS)}", "rate=0.3", "epochs=2", "every=7it",
        "data=image_folder", f"data.root={tiny_images}", "data.val=20", f"data.cache={tiny_images}/cache",
        "model=resnet8", "optim.batch_size=2", "trainer=cpu", "logger=none", "name=killed", "hydra.launcher.jobs=2",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def whole(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of an undisturbed sweep."""
    folder = tmp_path_factory.mktemp("whole")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return ended(folder)


def ended(folder: Path) -> dict[str, Any]:
    """Of each job: result.json and the last checkpoint, without times."""
    jobs = {}
    for path in sorted(folder.glob("outputs/killed/*/result.json")):
        result = json.loads(path.read_text())
        checkpoint = torch.load(path.parent / "checkpoints" / "last.ckpt", weights_only=True)
        for key in ("Checkpoints", "LambdaCallback"):
            checkpoint["callbacks"].pop(key, None)
        jobs[result["method"]] = timeless([result, checkpoint])
    return jobs


def timeless(value: Any) -> Any:
    """Comparable by ==: tensors as their bytes, without times and memory of the machine."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    if isinstance(value, dict):
        return {key: key in TIMES or timeless(child) for key, child in value.items() if key != "commit"}
    return [timeless(child) for child in value] if isinstance(value, list | tuple) else value


def disturb(command: list[str], folder: Path, kills: int, rng: random.Random) -> None:
    """Runs the command `kills` times with a SIGKILL, then until it ends by itself."""
    for _ in range(kills):
        sweep = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        working = workers(folder, sweep)
        time.sleep(rng.uniform(0, 5))
        working = [pid for pid in working if alive(pid)]
        victim = rng.choice([sweep.pid, *working])
        if sweep.poll() is None:
            os.kill(victim, signal.SIGKILL)
        if victim != sweep.pid:  # the others keep running; wait for none of them
            time.sleep(rng.uniform(0, 2))
            sweep.kill()
        sweep.wait()
    for _ in range(3):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode == 0:
            return
    raise AssertionError(f"{done.stdout}\n{done.stderr}")


def workers(folder: Path, sweep: subprocess.Popen[bytes]) -> list[int]:
    """The processes of jobs that hold their folders, once there are any."""
    while sweep.poll() is None:
        locks = [path for path in folder.glob("outputs/killed/*/.lock") if is_held(path)]
        if pids := [owner["pid"] for owner in map(holder, locks) if "pid" in owner]:
            return pids
        time.sleep(0.02)
    return []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def same(again: dict[str, Any], whole: dict[str, Any]) -> None:
    assert again.keys() == whole.keys()
    for method in whole:
        (result, checkpoint), (result0, checkpoint0) = again[method], whole[method]
        assert result == result0, method
        assert checkpoint.keys() == checkpoint0.keys()
        for part in checkpoint:
            assert checkpoint[part] == checkpoint0[part], f"{method}: {part}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("kills", "seed"), [(3, 0), *((5, seed) for seed in range(1, 5))])
def test_a_sweep_killed_anywhere_ends_in_the_same_bits(
    kills: int, seed: int, command: list[str], whole: dict[str, Any], tmp_path: Path
) -> None:
    disturb(command, tmp_path, kills, random.Random(seed))
    same(ended(tmp_path), whole)


def test_a_sweep_killed_in_each_of_its_jobs_ends_in_the_same_bits(tiny_images: Path, tmp_path: Path) -> None:
    words = ["-m", *tiny_job(tiny_images), "prune=sp,lottery", "rate=0.3", "epochs=2", "every=3it", "name=killed"]
    for name in ("whole", "again"):
        (tmp_path / name).mkdir()
    assert train(*words, cwd=tmp_path / "whole")[0] == 0
    for method in ("sp", "lottery"):
        killed(*words, cwd=tmp_path / "again", when="epoch 1/")
        assert method not in ended(tmp_path / "again")
    status, output = train(*words, cwd=tmp_path / "again")
    assert status == 0, output
    same(ended(tmp_path / "again"), ended(tmp_path / "whole"))
