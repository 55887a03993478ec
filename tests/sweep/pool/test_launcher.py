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
