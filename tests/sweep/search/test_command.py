"""The search command: the same command finishes a killed search, as if nothing had happened."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from compose import tiny_job
from forked import Command, train
from optuna import load_study
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

TRIALS = 4


def words(images: Path, name: str) -> list[str]:
    return [
        "-m", "hydra/sweeper=optuna", f"hydra.sweeper.n_trials={TRIALS}", f"name={name}", *tiny_job(images),
        "prune=usp", "rate=interval(0.2,0.95)", "optim.optimizer.lr=tag(log,interval(0.01,0.3))",
    ]  # fmt: skip


def trials(study: Path) -> list[tuple[str, dict[str, Any], list[float]]]:
    storage = JournalStorage(JournalFileBackend(str(study / "search.log")))
    return [(t.state.name, t.params, t.values) for t in load_study(study_name="search", storage=storage).trials]


def results(study: Path) -> dict[str, Path]:
    return {path.parent.name: path for path in study.glob("*/result.json")}


@pytest.fixture(scope="module")
def searches(tiny_images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An undisturbed search; one killed in its third job, its jobs finished by then, and its second run."""
    cwd = tmp_path_factory.mktemp("searches")
    status, output = train(*words(tiny_images, "whole"), cwd=cwd, report=True)
    assert status == 0, output
    command = Command(*words(tiny_images, "killed"), cwd=cwd)
    command.until("#3 of 4")
    command.until("epoch 2/3")
    command.send(signal.SIGKILL)
    command.ended()
    killed = cwd / "outputs" / "killed"
    finished = {name: path.stat().st_mtime_ns for name, path in results(killed).items()}
    status, output = train(*words(tiny_images, "killed"), cwd=cwd)
    assert status == 0, output
    return {"whole": cwd / "outputs" / "whole", "killed": killed, "finished": finished, "again": output}


def test_a_killed_search_ends_with_the_trials_of_an_undisturbed_one(searches: dict[str, Any]) -> None:
    assert trials(searches["killed"]) == trials(searches["whole"])
    assert [state for state, *_ in trials(searches["whole"])] == ["COMPLETE"] * TRIALS


def test_a_finished_job_is_not_run_again_and_a_killed_one_resumes(searches: dict[str, Any]) -> None:
    files = results(searches["killed"])
    assert len(searches["finished"]) == 2
    assert searches["finished"].items() <= {name: path.stat().st_mtime_ns for name, path in files.items()}.items()
    assert searches["again"].count("epoch 1/3") == 1  # of the fourth job: the third resumes
    assert len(files) == TRIALS


def test_the_objectives_of_trials_are_those_of_the_results(searches: dict[str, Any]) -> None:
    recorded = {}
    for _, params, values in trials(searches["whole"]):
        recorded[f"rate={params['rate']},", f"optim.optimizer.lr={params['optim.optimizer.lr']}"] = values
    for name, path in results(searches["whole"]).items():
        result = json.loads(path.read_text())
        [values] = [values for keys, values in recorded.items() if all(key in name for key in keys)]
        assert values == [result["history"][-1]["val_acc"], result["cost"]["pruned"]["macs"]]


def test_the_report_shows_the_pareto_front(searches: dict[str, Any]) -> None:
    assert (searches["whole"] / "figures" / "pareto_front_over_macs.png").stat().st_size > 10_000
    front = (searches["whole"] / "summary.md").read_text().partition("### Pareto front")[2]
    assert "optim.optimizer.lr=" in front
