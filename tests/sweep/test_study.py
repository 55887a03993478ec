"""The train command: a sweep up to its table, and mistakes reported in one line before any job."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def train(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "train", *args], cwd=cwd, capture_output=True, text=True)


@pytest.fixture
def tiny(tiny_images: Path) -> list[str]:
    where = ["data=image_folder", f"data.root={tiny_images}", "data.val=20", f"data.cache={tiny_images}/cache"]
    return [*where, "model=resnet8", "epochs=2", "optim.batch_size=20", "trainer=cpu", "name=tiny"]


def test_a_sweep_ends_with_a_table_and_figures_and_is_not_run_twice(tiny: list[str], tmp_path: Path) -> None:
    sweep = ["-m", "prune=usp,sp", "rate=0,0.5", *tiny]
    first = train(*sweep, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    study = tmp_path / "outputs" / "tiny"
    results = sorted(study.glob("*/result.json"))
    assert [path.parent.name.partition(",data")[0] for path in results] == [
        "prune=sp,rate=0,seed=0", "prune=sp,rate=0.5,seed=0", "prune=usp,rate=0,seed=0", "prune=usp,rate=0.5,seed=0",
    ]  # fmt: skip
    for name in ("summary.csv", "summary.md", "figures/accuracy_over_rate.png", "figures/accuracy_over_epochs-usp.svg"):
        assert (study / name).stat().st_size > 100
    assert "sparsity" in first.stdout
    stamps = [path.stat().st_mtime_ns for path in results]
    again = train(*sweep, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already finished, skipped") == 4
    assert stamps == [path.stat().st_mtime_ns for path in results]


def test_a_failing_job_costs_the_others_neither_their_results_nor_the_table(tiny: list[str], tmp_path: Path) -> None:
    done = train("-m", "prune=usp", "rate=0.5", *tiny, "epochs=1", "optim.optimizer.lr=0.1,1e30", cwd=tmp_path)
    assert done.returncode == 1
    assert len(list((tmp_path / "outputs" / "tiny").glob("*/result.json"))) == 1
    assert (tmp_path / "outputs" / "tiny" / "summary.csv").exists()
    assert "unfinished" in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["-m", "rate=0,0.5,50", "prune=usp"],
            "train: rate=50: expected a fraction in [0, 1); for 50 % write rate=0.5",
        ),
        (
            ["-m", "experiment=demo", "rate=0,7"],
            "train: rate=7: expected a fraction in [0, 1); for 7 % write rate=0.07",
        ),
        (["rate=1.5", "prune=usp"], "train: rate=1.5: expected a fraction in [0, 1)"),
        (["-m", "every=0s,5m"], "train: every=0s: expected steps"),
        (["-m", "hydra.launcher.devices=0"], "train: hydra.launcher.devices=0: expected auto, or GPUs"),
        (
            ["-m", "rate=0", "data=shapes", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"],
            "train: trainer.devices=2: each process takes a slot, and the CPU has hydra.launcher.jobs=1",
        ),
        (["-m", "data=shapes", "seed=0,4294967296"], "train: seed=4294967296: expected a whole number of"),
        (["-m", "data=shapes", "prune=usp,nm", "rate=0.5,0.3"], "train: rate=0.3: groups of m=4 weights allow 0.25, "),
        (["data=shapes", "optim.batch_size=100000"], "train: batch_size=100000: more than the "),
        (["-m", "experiment=demo,scan"], "train: hydra.sweeper.params={"),
        (
            ["-m", "hydra/sweeper=optuna", "data=shapes", "prune=nm", "rate=interval(0.3,0.4)"],
            "train: rate=0.3: groups of m=4",
        ),
        (["prune=magic"], "Available options in 'prune':\n\tbinary"),
        (["model=resnet9000"], "Available options in 'model':"),
        (["-m", "data=image_folder", "data.root=nowhere", "seed=0,1"], "train: data.root=nowhere: no such folder"),
        (["-m", "data=cifar10", "data.url=http://127.0.0.1:9/x", "seed=0,1"], "data=image_folder data.root=DIR"),
    ],
)
def test_a_mistake_is_reported_before_any_job_and_nothing_is_written(
    args: list[str], message: str, tmp_path: Path
) -> None:
    done = train(*args, f"data.cache={tmp_path}/cache" if "data=" in str(args) else "seed=0", cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_an_output_folder_that_cannot_be_written_is_reported(tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "outputs").touch()
    done = train(*tiny, cwd=tmp_path)
    assert done.returncode == 1
    assert "outputs is not a folder" in done.stderr


def test_a_killed_job_is_finished_by_the_same_command(tiny: list[str], tmp_path: Path) -> None:
    overrides = ["prune=usp", "rate=0.5", *tiny, "epochs=15", "name=whole"]
    train(*overrides, cwd=tmp_path)
    overrides[-1] = "name=killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "train", *overrides],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch 5/15" in line:
            process.kill()
            break
    process.wait()
    process.stdout.close()
    killed = next((tmp_path / "outputs" / "killed").glob("prune*"))
    assert not (killed / "result.json").exists()
    assert train(*overrides, cwd=tmp_path).returncode == 0
    resumed = json.loads((killed / "result.json").read_text())
    whole = json.loads(next((tmp_path / "outputs" / "whole").glob("prune*/result.json")).read_text())
    losses = [[epoch["test_loss"] for epoch in result["history"]] for result in (resumed, whole)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 15


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_folder_with_the_users_train_py_and_networks(jobs: int, tiny: list[str], tmp_path: Path) -> None:
    """`python -m prunelab.train` runs none of the first and all of the second, in this process and in its jobs."""
    (tmp_path / "train.py").write_text("open('own_train_py_was_run', 'w')\n")
    (tmp_path / "own.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self, num_classes):\n"
        "        super().__init__(nn.Conv2d(3, 4, 3, 4), nn.Flatten(), nn.Linear(256, num_classes))\n"
    )
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "own.yaml").write_text("_target_: own.Net\n")
    args = ["--config-dir", "conf", "prune=usp", "rate=0.3,0.4", *tiny, "epochs=1", "model=own"]
    done = subprocess.run(
        [sys.executable, "-m", "prunelab.train", "-m", *args, f"hydra.launcher.jobs={jobs}"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert len(list((tmp_path / "outputs" / "tiny").glob("*/result.json"))) == 2
    assert not (tmp_path / "own_train_py_was_run").exists()
