"""Jobs one after another in the process of the sweep."""

import gc
import json
import platform
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from compose import CONF, tiny_job
from forked import train
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from prunelab.job.conf import conf_dir
from prunelab.job.run import run
from prunelab.sweep.pool import launcher


def sweep(job: Callable[[DictConfig], float], images: Path, *overrides: str) -> None:
    args = ["~hydra.callbacks.study", "name=s", *tiny_job(images), "epochs=1", *overrides]
    args = sorted(args, key=lambda word: "mine" not in word)  # of two search paths Hydra takes the first
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        GlobalHydra.instance().hydra.multirun("train", job, args)  # type: ignore[union-attr]


def test_a_finished_job_leaves_few_objects_behind(tmp_path: Path, tiny_images: Path, monkeypatch) -> None:
    """Each once left its whole configuration, 1,130 objects."""
    monkeypatch.chdir(tmp_path)
    counts = []

    def counted(cfg: DictConfig) -> float:
        gc.collect()
        counts.append(len(gc.get_objects()))
        return run(cfg)

    sweep(counted, tiny_images, "seed=0,1,2,3,4")
    assert len(counts) == 5
    assert max(after - before for before, after in pairwise(counts[2:])) < 300  # the first ones fill caches


def test_a_sweep_says_once_which_job_it_waits_for_and_who_has_it(
    tmp_path: Path, tiny_images: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launcher, "AGAIN", 0)
    answers = iter([True, False, True, True])  # of the first job, the second, and twice of the first

    def busy(lock: Path) -> bool:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.write_text(json.dumps({"host": platform.node(), "pid": 1}))
        return next(answers, False)

    monkeypatch.setattr(launcher, "is_held", busy)
    with pytest.raises(SystemExit):  # these jobs leave no results
        sweep(lambda _: 0.5, tiny_images, "seed=0,1")
    said = [line for line in capsys.readouterr().out.splitlines() if "waiting" in line]
    assert len(said) == 1
    assert re.search(rf"waiting: \S+seed=0\S+ is in use by process 1 on {platform.node()}$", said[0])


def test_a_job_of_which_edited_files_have_made_another_is_not_begun(
    tmp_path: Path, tiny_images: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (mine := tmp_path / "mine" / "experiment").mkdir(parents=True)
    (mine / "own.yaml").write_text("# @package _global_\noptim:\n  label_smoothing: 0.1\n")

    def edits(cfg: DictConfig) -> float:
        (mine / "own.yaml").write_text("# @package _global_\noptim:\n  label_smoothing: 0.2\n")
        return run(cfg)

    command = [f"hydra.searchpath=[{CONF},{(tmp_path / 'mine').as_uri()}]", "experiment=own", "seed=0,1"]
    with pytest.raises(SystemExit):
        sweep(edits, tiny_images, *command)
    [result] = Path("outputs/s").glob("*/result.json")
    assert "seed=0" in result.parent.name
    assert json.loads(result.read_text())["config"]["optim"]["label_smoothing"] == 0.1
    assert not list(Path("outputs/s").glob("*seed=1*/job.json"))
    (mine / "own.yaml").write_text("# @package _global_\noptim:\n  label_smoothing: 0.1  # as before\n")
    sweep(run, tiny_images, *command)
    assert len(list(Path("outputs/s").glob("*/result.json"))) == 2


def test_numbered_folders_keep_their_jobs_side_by_side_and_failed_ones_are_listed(tmp_path: Path) -> None:
    numbered = ["hydra.sweep.subdir=run${hydra.job.num}", "hydra.launcher.jobs=2", "optim.optimizer.lr=0.1,1e30"]
    small = ["data=shapes", "data.train=100", "data.val=10", "data.test=10", "model=resnet8", "epochs=1"]
    small += ["optim.batch_size=50"]
    status, output = train("-m", *small, "name=s", "trainer=cpu", *numbered, cwd=tmp_path, report=True)
    assert status == 1
    assert "MissingMandatoryValue" not in output, output
    study = tmp_path / "outputs" / "s"
    assert {path.parent.name for path in study.glob("*/result.json")} == {"run0"}, output
    assert {path.parent.name for path in study.glob("*/failure.json")} == {"run1"}
    assert "`run1`: failed: ValueError" in (study / "summary.md").read_text()


@pytest.mark.parametrize("sweeper", ["grid", "optuna"])
def test_devices_that_a_swept_file_sets_are_counted(sweeper: str, tiny_images: Path, tmp_path: Path) -> None:
    """The sweep once started again inside the second process of each job."""
    (tmp_path / "experiment").mkdir()
    for seed in (1, 2):
        text = "trainer:\n  devices: 2\n  strategy: ddp\n"
        (tmp_path / "experiment" / f"e{seed}.yaml").write_text(f"# @package _global_\nseed: {seed}\n{text}")
    tiny = [word for word in tiny_job(tiny_images) if "searchpath" not in word]
    where = [f"hydra.searchpath=[{CONF},{tmp_path.as_uri()}]", f"hydra/sweeper={sweeper}"]
    status, output = train("-m", "experiment=e1,e2", *tiny, *where, cwd=tmp_path)
    assert status == 1
    refused = "train: trainer.devices=2: each process takes a slot, and the CPU has hydra.launcher.jobs=1 of them"
    assert output.splitlines()[-1].startswith(refused)
    assert not list(tmp_path.glob("outputs/*/prune*"))
