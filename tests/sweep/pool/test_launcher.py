"""Jobs one after another in the process of the sweep."""

import gc
from itertools import pairwise
from pathlib import Path

from compose import tiny_job
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from prunelab.job.conf import conf_dir
from prunelab.job.run import run


def test_a_finished_job_leaves_few_objects_behind(tmp_path: Path, tiny_images: Path, monkeypatch) -> None:
    """Each once left its whole configuration, 1,130 objects."""
    monkeypatch.chdir(tmp_path)
    counts = []

    def counted(cfg: DictConfig) -> float:
        gc.collect()
        counts.append(len(gc.get_objects()))
        return run(cfg)

    jobs = ["~hydra.callbacks.study", "name=s", *tiny_job(tiny_images), "epochs=1", "seed=0,1,2,3,4"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        GlobalHydra.instance().hydra.multirun("train", counted, jobs)  # type: ignore[union-attr]
    assert len(counts) == 5
    assert max(after - before for before, after in pairwise(counts[2:])) < 300  # the first ones fill caches
