"""The studies in conf/experiment: each job of each scale composes, and the list says how far they are."""

import json
from pathlib import Path

import pytest
from compose import compose_job, job_from
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from rich.console import Console

from prunelab.job.conf import conf_dir
from prunelab.sweep.grid import combinations
from prunelab.sweep.studies import Overview, studies

WHOLE = Path(__file__).parents[1] / "store" / "result-0.1.0.json"
FILES = [file for file in sorted((conf_dir() / "experiment").glob("*.yaml")) if "scales:" in file.read_text()]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_job_of_each_sweep_composes_at_each_scale(file: Path, tmp_path: Path) -> None:
    sweeper = OmegaConf.load(file).hydra.sweeper
    for scale, values in sweeper.scales.items():
        for grid in sweeper.params:
            first, *_ = combinations([{**values, **grid}], [], OverridesParser.create())
            job = job_from(compose_job([f"experiment={file.stem}", f"scale={scale}", *first], tmp_path))
            assert job.config["name"] == f"{file.stem}-{scale}"


def test_the_list_counts_finished_jobs_and_their_core_hours(tmp_path: Path) -> None:
    whole = json.loads(WHOLE.read_text())
    for seed, epochs in ((0, None), (1, {"in": "seed=0", "epochs": 1})):
        history = [row | {"epoch": epoch, "cpu_seconds": 1800.0} for epoch, row in enumerate(whole["history"][:2], 1)]
        folder = tmp_path / "exercise-cpu" / f"rate=0.2,seed={seed}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(whole | {"history": history, "shared_epochs": epochs}))
    (tmp_path / "exercise-cpu" / "rate=0.4,seed=0").mkdir()
    [study] = [study for study in studies(tmp_path) if (study.name, study.scale) == ("exercise", "cpu")]
    assert (study.jobs, study.finished, study.core_hours) == (39, 2, 1.5)  # two epochs, and one
    assert study.left == pytest.approx(37 * 0.75)


def test_core_hours_that_are_not_known_are_not_shown(tmp_path: Path) -> None:
    folder = tmp_path / "exercise-cpu" / "rate=0.2"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(WHOLE.read_text())
    console = Console(width=200, record=True)
    console.print(Overview(tmp_path))
    [row] = [line.split() for line in console.export_text().splitlines() if line.split()[:2] == ["exercise", "cpu"]]
    assert row == ["exercise", "cpu", "39", "1"]
