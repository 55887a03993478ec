"""Sweeps in a real Slurm: arrays, GPUs, and jobs and commands that fail or are killed, preempted or too slow."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from single_node import SingleNode

pytestmark = pytest.mark.cluster
LAUNCHER = ["-m", "hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "prune=usp"]
STUDY = "resnet8-image_folder"  # its name where none is given


@pytest.fixture
def tiny(tiny_images: Path) -> list[str]:
    where = ["data=image_folder", f"data.root={tiny_images}", "data.val=20", f"data.cache={tiny_images}/cache"]
    return [*where, "model=resnet8", "epochs=2", "optim.batch_size=20", "trainer=cpu", "logger=none", "rate=0.5"]


@dataclass
class Command:
    """`python -m train ...` in a folder, as a user on a login node would start it; its output is in a file."""

    node: SingleNode
    cwd: Path
    args: list[str]

    def __post_init__(self) -> None:
        self.output = Path(tempfile.mkdtemp(dir=self.cwd)) / "output"
        with self.output.open("wb") as output:
            whole = [sys.executable, "-m", "train", *self.args]
            self.process = subprocess.Popen(whole, cwd=self.cwd, env=self.node.env, stdout=output, stderr=output)

    def finish(self, status: int = 0) -> str:
        assert self.process.wait(280) == status, self.output.read_text()
        return self.output.read_text()

    def until(self, done: Callable[[], Any], seconds: float = 60) -> Any:
        """What `done` returns once it is not empty."""
        end = time.monotonic() + seconds
        while not (value := done()):
            assert time.monotonic() < end, self.output.read_text()
            assert self.process.poll() is None, self.output.read_text()
            time.sleep(0.1)
        return value


Start = Callable[..., Command]


@pytest.fixture
def start(idle: SingleNode, tmp_path: Path) -> Iterator[Start]:
    commands: list[Command] = []

    def do(*args: str) -> Command:
        commands.append(Command(idle, tmp_path, list(args)))
        return commands[-1]

    yield do
    for command in commands:
        command.process.kill()
        command.process.wait()


def folders(cwd: Path) -> list[Path]:
    return sorted((cwd / "outputs" / STUDY).glob("prune=*"))


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


def test_a_sweep_is_an_array_and_each_job_has_a_gpu_of_its_own(
    start: Start, idle: SingleNode, tiny: list[str], tmp_path: Path
) -> None:
    gpus = ["hydra.launcher.gpus_per_node=1", "hydra.launcher.setup=['echo gpu $CUDA_VISIBLE_DEVICES']"]
    command = start(*LAUNCHER, *gpus, *tiny, "epochs=1", "seed=0,1,2,3")
    command.finish()
    saved = [read(folder / ".slurm.json") for folder in folders(tmp_path)]
    assert all((folder / "result.json").exists() for folder in folders(tmp_path))
    arrays = [job["job"].partition("_")[::2] for job in saved]
    assert len({array for array, _ in arrays}) == 1
    assert [index for _, index in arrays] == ["0", "1", "2", "3"]
    gpus_used = {line for job in saved for line in Path(job["output"]).read_text().splitlines() if "gpu " in line}
    assert len(gpus_used) == 4, gpus_used


def test_jobs_that_raise_or_are_killed_are_reported_and_cost_the_others_nothing(
    start: Start, idle: SingleNode, tiny: list[str], tmp_path: Path
) -> None:
    command = start(*LAUNCHER, *tiny, "epochs=10", "optim.optimizer.lr=0.1,0.2,1e30")
    lock = command.until(lambda: list(tmp_path.glob("outputs/*/*lr=0.2/.lock")))[0]
    os.kill(command.until(lambda: json.loads(lock.read_text() or "{}").get("pid")), signal.SIGKILL)
    command.finish(1)
    kept, killed, raised = folders(tmp_path)
    assert read(kept / "result.json")["accuracy"] > 0
    assert "ended without a result: FAILED, exit 137" in read(killed / "failure.json")["reason"]
    assert read(raised / "failure.json")["reason"].startswith("ValueError")
    assert not (killed / "result.json").exists()
    assert not (raised / "result.json").exists()


def test_a_preempted_job_is_queued_again_and_ends_with_the_same_bits(
    start: Start, idle: SingleNode, tiny: list[str], tmp_path: Path
) -> None:
    overrides = [*tiny, "epochs=30", "every=1h"]  # so that the only checkpoint is the one left for the signal
    command = start(*LAUNCHER, *overrides)
    log = command.until(lambda: list(tmp_path.glob("outputs/*/*/train.log")))[0]
    command.until(lambda: "epoch 3/30" in log.read_text())
    job = read(log.parent / ".slurm.json")
    idle.ask("scancel", "--signal=USR2", job["job"])
    undisturbed = subprocess.run(
        [sys.executable, "-m", "train", *overrides, "prune=usp", "name=alone"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert undisturbed.returncode == 0, undisturbed.stderr
    command.finish()
    output = Path(job["output"]).read_text()
    assert output.count("Starting with") == 2
    assert output.count("epoch 3/30") == 1
    alone = next((tmp_path / "outputs" / "alone").glob("prune=*"))
    assert not (log.parent / "failure.json").exists()
    assert [epoch["test_loss"] for epoch in read(log.parent / "result.json")["history"]] == [
        epoch["test_loss"] for epoch in read(alone / "result.json")["history"]
    ]
    expected, resumed = weights(alone), weights(log.parent)
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


@pytest.mark.slow
def test_a_job_that_reaches_its_time_limit_is_queued_again_and_finishes(
    start: Start, idle: SingleNode, tiny: list[str], tmp_path: Path
) -> None:
    limit = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=30"]
    command = start(*LAUNCHER, *limit, *tiny, "epochs=200")
    command.finish()
    (folder,) = folders(tmp_path)
    assert Path(read(folder / ".slurm.json")["output"]).read_text().count("Starting with") > 1
    assert len(read(folder / "result.json")["history"]) == 200


def test_the_same_command_waits_for_the_jobs_of_one_that_was_killed(
    start: Start, idle: SingleNode, tiny: list[str], tmp_path: Path
) -> None:
    sweep = [*LAUNCHER, *tiny, "seed=0,1"]
    command = start(*sweep)
    command.until(lambda: len(list(tmp_path.glob("outputs/*/*/.slurm.json"))) == 2)
    command.process.kill()
    command.process.wait()
    assert len(idle.ask("squeue", "-h", "-r", "-o", "%i").split()) == 2
    again = start(*sweep)
    output = again.finish()
    assert "2 of them from an earlier command" in output
    assert all((folder / "result.json").exists() for folder in folders(tmp_path))
    assert len(list((tmp_path / "outputs" / STUDY / ".submitit").glob("*_submission.sh"))) == 1


def test_a_job_works_in_the_folder_inside_a_folder_that_the_command_names(
    start: Start, idle: SingleNode, tiny: list[str], tmp_path: Path
) -> None:
    start(*LAUNCHER, *tiny, "epochs=1", "hydra.sweep.subdir='group/${hydra.job.num}'").finish()
    assert (tmp_path / "outputs" / STUDY / "group" / "0" / "result.json").exists()


def test_a_command_may_run_inside_of_an_allocation(idle: SingleNode, tiny: list[str], tmp_path: Path) -> None:
    inside = ["salloc", "--mem-per-cpu=100", sys.executable, "-m", "train", *LAUNCHER, "hydra.launcher.mem_gb=1"]
    done = subprocess.run([*inside, *tiny, "epochs=1"], cwd=tmp_path, env=idle.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_commands_at_once_submit_each_job_once(
    start: Start, idle: SingleNode, tiny: list[str], tmp_path: Path
) -> None:
    commands = [start(*LAUNCHER, *tiny, "seed=0,1") for _ in range(2)]
    for command in commands:
        command.finish()
    assert len(list((tmp_path / "outputs" / STUDY / ".submitit").glob("*_0_log.out"))) == 2


def test_ctrl_c_leaves_the_jobs_and_prints_the_command_that_cancels_them(
    start: Start, idle: SingleNode, tiny: list[str], tmp_path: Path
) -> None:
    command = start(*LAUNCHER, *tiny, "epochs=1000", "seed=0,1,2")
    command.until(lambda: len(list(tmp_path.glob("outputs/*/*/.lock"))) == 3)
    command.process.send_signal(signal.SIGINT)
    output = command.finish(130)
    line = next(line for line in output.splitlines() if "scancel" in line)
    assert "3 jobs stay in Slurm" in line
    assert len(idle.ask("squeue", "-h", "-r", "-o", "%i").split()) == 3
    subprocess.run(line.rpartition(": ")[2], shell=True, env=idle.env, check=True)
    idle.until(lambda: not idle.ask("squeue", "-h"))
    assert not list(tmp_path.glob("outputs/*/*/failure.json"))


def test_a_job_on_two_devices_is_two_tasks_that_train_one_network(
    start: Start, idle: SingleNode, tiny: list[str], tmp_path: Path
) -> None:
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "epochs=10", "every=1h"]
    command = start(*LAUNCHER, *[o for o in tiny if o != "trainer=cpu"], *two)
    log = command.until(lambda: list(tmp_path.glob("outputs/*/*/train.log")))[0]
    command.until(lambda: "epoch 2/10" in log.read_text())
    job = read(log.parent / ".slurm.json")
    idle.ask("scancel", "--signal=USR2", job["job"])
    command.finish()
    assert len(read(log.parent / "result.json")["history"]) == 10
    assert Path(job["output"]).read_text().count("Starting with") == 2
    assert Path(job["output"].replace("_0_log", "_1_log")).exists()
