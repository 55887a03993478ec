"""The README.md in outputs/ disturbs neither reports nor jobs."""

import shutil
from pathlib import Path

import pytest

from prunelab.report.listing import list_jobs
from prunelab.report.results import NothingToReport, load


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "README.md").write_text("Studies write here.\n")
    return folder


def test_the_readme_is_no_job(outputs: Path) -> None:
    with pytest.raises(NothingToReport, match="no job in this folder or below"):
        list_jobs(outputs)
    with pytest.raises(NothingToReport, match="no job in this folder"):
        load(outputs)


def test_jobs_beside_the_readme_are_listed_and_run_again_once_outputs_is_deleted(job, outputs: Path) -> None:
    folder = outputs / "study" / "prune=usp,rate=0.5,seed=0"
    accuracies = []
    for _ in range(2):
        accuracies.append(job("prune=usp", "rate=0.5", "epochs=1", folder=folder)["accuracy"])
        assert [(entry.study, entry.job, entry.state) for entry in list_jobs(outputs).entries] == [
            ("study", folder.name, "finished")
        ]
        shutil.rmtree(outputs)
    assert accuracies[0] == accuracies[1]
