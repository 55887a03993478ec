"""The studies in conf/experiment: their jobs could run, and the list says how far they are."""

import json
from pathlib import Path

import pytest
from compose import CONF, compose_job, job_from
from forked import train
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from rich.console import Console

from prunelab.job.conf import conf_dir
from prunelab.job.rehearsal import rehearse
from prunelab.sweep.params import combinations
from prunelab.sweep.studies import Overview, studies

WHOLE = Path(__file__).parents[1] / "store" / "result-0.1.0.json"
SMALL = {"data": "shapes", "data.train": 1000, "data.val": 20, "data.test": 20, "optim.batch_size": 16}
FILES = [file for file in sorted((conf_dir() / "experiment").glob("*.yaml")) if "scales:" in file.read_text()]
FEW_IMAGES = ["data=shapes", "data.train=200", "data.val=20", "data.test=20"]
# Figures without which a study's question would have no answer but the table's.
ANSWERS = {
    "binary": {"mean_accuracy_over_bytes"},
    "dynamic": {"accuracy_over_rate"},
    "exercise": {"accuracy_over_rate", "accuracy_over_epochs-sp", "mean_accuracy_over_bops"},
    "five_methods": {"accuracy_over_rate", "pareto_front_over_parameters"},
    "knee": {"scan-prune_allocation=global~f63ba8", "accuracy_over_rate"},
    "lottery": {"accuracy_by_round", "accuracy_over_rate"},
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_job_of_each_method_passes_the_checks_before_training(file: Path, tmp_path: Path) -> None:
    """At each scale, with its largest rate; on a small network and few images, where no check costs much."""
    sweeper = OmegaConf.load(file).hydra.sweeper
    jobs = {}
    for scale, values in sweeper.scales.items():
        model = "keras_cnn" if file.stem == "five_methods" else "narrow"  # which has no hidden neurons
        grids = [{**values, **grid} | SMALL | {"model": model} for grid in sweeper.params]
        for overrides in combinations(grids, [], OverridesParser.create()):
            kind = scale, *(override for override in overrides if not override.startswith(("rate=", "seed=")))
            jobs[kind] = [f"experiment={file.stem}", f"scale={scale}", f"hydra.searchpath=[{CONF}]", *overrides]
    composed = [job_from(compose_job(overrides, tmp_path)) for overrides in jobs.values()]
    assert {job.config["name"] for job in composed} == {f"{file.stem}-{scale}" for scale in sweeper.scales}
    rehearse(composed, here=False)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "smaller"),
    [("binary", FEW_IMAGES), *(pytest.param(name, [], id=f"{name}-whole", marks=pytest.mark.slow) for name in ANSWERS)],
)
def test_a_study_runs_to_its_end_and_draws_what_it_asks(name: str, smaller: list[str], tmp_path: Path) -> None:
    cache = f"data.cache={tmp_path}/cache"
    status, output = train("-m", f"experiment={name}", "scale=smoke", cache, *smaller, cwd=tmp_path, report=True)
    assert status == 0, output
    assert "not drawn" not in output
    outputs = tmp_path / "outputs"
    [study] = [study for study in studies(outputs) if (study.name, study.scale) == (name, "smoke")]
    assert study.finished == study.jobs
    drawn = {figure.stem for figure in (outputs / f"{name}-smoke" / "figures").glob("*.svg")}
    assert ANSWERS[name] <= drawn


def test_the_list_counts_finished_jobs_and_their_core_hours(tmp_path: Path) -> None:
    """An epoch that two jobs share counts once; a job that the study does not ask for counts not at all."""
    whole = json.loads(WHOLE.read_text())
    asked = ["prune=usp", "rate=0.2", "data=image_folder", "model=resnet20", "epochs=30"]
    for seed, own in ((0, 1800.0), (1, 900.0), (7, 3600.0)):
        history = [row | {"cpu_seconds": spent} for row, spent in zip(whole["history"], (1200.0, own), strict=False)]
        folder = tmp_path / "exercise-cpu" / f"rate=0.2,seed={seed}"
        folder.mkdir(parents=True)
        job = whole | {"history": history, "overrides": [*asked, f"seed={seed}", "precision=32-true"]}
        (folder / "result.json").write_text(json.dumps(job))
        again = folder.with_name(f"{folder.name},rerun=20261121-120000")
        again.mkdir()
        (again / "result.json").write_text(json.dumps(job))
    (tmp_path / "exercise-cpu" / "rate=0.4,seed=0").mkdir()
    [study] = [study for study in studies(tmp_path) if (study.name, study.scale) == ("exercise", "cpu")]
    assert (study.jobs, study.finished, study.core_hours) == (39, 2, 3900 / 3600)
    assert study.left == pytest.approx(37 * 3900 / 7200)


def test_a_job_counts_whatever_its_images(tmp_path: Path) -> None:
    """The smoke scale also says how many; a folder of images has another number."""
    folder = tmp_path / "exercise-smoke" / "rate=0.2"
    folder.mkdir(parents=True)
    asked = ["prune=usp", "rate=0.2", "data=image_folder", "model=resnet8", "epochs=4", "seed=0"]
    (folder / "result.json").write_text(json.dumps(json.loads(WHOLE.read_text()) | {"overrides": asked}))
    assert [study.finished for study in studies(tmp_path) if study.name == "exercise"] == [1, 0, 0]


@pytest.mark.parametrize(
    ("spent", "shown"),
    [({}, []), ({"cpu_seconds": 60.0}, ["0.02", "0.63"]), ({"cpu_seconds": 3600.0}, ["1.0", "38.0"])],
)
def test_core_hours_are_shown_where_they_are_known(spent: dict[str, float], shown: list[str], tmp_path: Path) -> None:
    """Of minutes in hundredths, not as 0.0; three epochs of equal seconds count as one that is shared."""
    folder = tmp_path / "exercise-cpu" / "rate=0.2"
    folder.mkdir(parents=True)
    whole = json.loads(WHOLE.read_text())
    history = [row | spent for row in whole["history"]]
    asked = ["prune=usp", "rate=0.2", "model=resnet20", "epochs=30", "seed=0"]
    (folder / "result.json").write_text(json.dumps(whole | {"history": history, "overrides": asked}))
    console = Console(width=200, record=True)
    console.print(Overview(tmp_path))
    [row] = [line.split() for line in console.export_text().splitlines() if line.split()[:2] == ["exercise", "cpu"]]
    assert row == ["exercise", "cpu", "39", "1", *shown]
