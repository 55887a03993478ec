"""A search that is killed at any point continues with the trials that it would have chosen."""

from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from prunelab.sweep.search.trials import Trials

SPACE = {"rate": FloatDistribution(0.2, 0.95), "lr": FloatDistribution(0.01, 0.3, log=True)}
SETTINGS: dict[str, Any] = {"space": dict.fromkeys(SPACE, ""), "objectives": ["accuracy", "macs"]}
TOTAL = 30


def opened(log: Path, **changes: object) -> Trials:
    return Trials(log, SETTINGS | changes, ["maximize", "minimize"])


def judge(params: dict[str, Any]) -> list[float] | None:
    return [params["lr"] - params["rate"] ** 3, 1 - params["rate"]] if params["rate"] < 0.8 else None


def finish(trials: Trials, jobs: int = 1, seed: int = 0) -> list[dict[str, Any]]:
    while batch := trials.next(SPACE, TOTAL, jobs, seed):
        for number, params in batch:
            trials.record(number, judge(params))
    assert all(t.state in (TrialState.COMPLETE, TrialState.FAIL) for t in trials.study.trials)
    return [trial.params for trial in trials.begun()]


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("finished", [0, 1])
def test_where_a_search_is_killed_does_not_change_what_it_chooses(jobs: int, finished: int, tmp_path: Path) -> None:
    whole = finish(opened(tmp_path / "whole.log"), jobs)
    log = tmp_path / "killed.log"
    for _ in range(TOTAL // jobs):  # every command is killed during its second batch
        trials = opened(log)
        for number, params in trials.next(SPACE, TOTAL, jobs, seed=0):
            trials.record(number, judge(params))
        for number, params in trials.next(SPACE, TOTAL, jobs, seed=0)[:finished]:
            trials.record(number, judge(params))
    assert finish(opened(log), jobs) == whole
    assert len(whole) == TOTAL


def test_trials_differ_among_themselves_and_with_the_seed(tmp_path: Path) -> None:
    first, second = (finish(opened(tmp_path / f"{seed}.log"), seed=seed) for seed in (0, 1))
    assert len({str(params) for params in first}) > 0.9 * TOTAL
    assert first[0] != second[0]


def test_tpe_learns_where_the_front_is(tmp_path: Path) -> None:
    chosen = finish(opened(tmp_path / "search.log"))
    assert sum(p["lr"] for p in chosen[20:]) / 10 > 1.3 * sum(p["lr"] for p in chosen[:10]) / 10


def test_a_trial_killed_between_two_of_its_values_is_chosen_again(tmp_path: Path) -> None:
    whole = finish(opened(tmp_path / "whole.log"))
    log = tmp_path / "killed.log"
    opened(log).study.ask({"rate": SPACE["rate"]})
    assert finish(opened(log)) == whole


def test_half_a_line_and_a_lock_left_by_a_kill_are_removed(tmp_path: Path) -> None:
    log = tmp_path / "search.log"
    opened(log).next(SPACE, TOTAL, 1, seed=0)
    with log.open("a") as file:
        file.write('{"op_code":')
    log.with_name("search.log.lock").symlink_to(log)
    assert len(finish(opened(log))) == TOTAL


@pytest.mark.parametrize("changed", [{"space": {"rate": "", "lr": "other"}}, {"objectives": ["accuracy", "bops"]}])
def test_another_search_in_the_same_study_is_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    opened(tmp_path / "search.log")
    with pytest.raises(ValueError, match=f"other {next(iter(changed))}: choose another name="):
        opened(tmp_path / "search.log", **changed)


def test_more_trials_can_be_requested_later(tmp_path: Path) -> None:
    first = finish(opened(tmp_path / "search.log"))
    assert opened(tmp_path / "search.log").next(SPACE, TOTAL, 1, seed=0) == []
    [(_, params)] = opened(tmp_path / "search.log").next(SPACE, TOTAL + 1, 1, seed=0)
    assert params not in first


def test_choices_are_searched_too(tmp_path: Path) -> None:
    space = {"prune": CategoricalDistribution(("usp", "sp"))}
    trials = opened(tmp_path / "search.log", space={"prune": ""})
    assert {params["prune"] for _, params in trials.next(space, 20, 20, seed=0)} == {"usp", "sp"}
