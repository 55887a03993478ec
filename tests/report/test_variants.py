"""A row holds jobs of one method with one setting of it, wherever the setting came from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunelab.report.results import load
from prunelab.store.identity import flat

Add = Callable[..., Path]
PRUNER = "prune.pruning.pruner"
END, SEED, RATE = f"{PRUNER}.schedule.end", f"{PRUNER}.seed", f"{PRUNER}.schedule.rate"


def methods(add: Add, *jobs: dict[str, Any]) -> list[str]:
    for i, job in enumerate(jobs):
        study = add(**{"seed": i, "folder": f"a={i}"} | job).parent
    return [result.method for result in load(study)[0]]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({END: 0.75}, {END: 0.5}, ["usp (schedule.end=0.75)", "usp (schedule.end=0.5)"]),
        ({END: 0.75}, {SEED: 1}, ["usp (schedule.end=0.75)", "usp"]),
        ({END: 0.75}, {END: 0.75}, ["usp", "usp"]),
        ({SEED: 0}, {SEED: 1}, ["usp", "usp"]),
        ({SEED: 0}, {SEED: 0}, ["usp", "usp"]),
        ({SEED: 1}, {SEED: 1}, ["usp", "usp"]),
        ({SEED: 0}, {SEED: 5}, ["usp", "usp (pruning.pruner.seed=5)"]),
        ({f"{PRUNER}.flag": False}, {f"{PRUNER}.flag": True}, ["usp (flag=False)", "usp (flag=True)"]),
        ({"retrain": "finetune"}, {"retrain": "lr_rewind"}, ["usp (retrain=finetune)", "usp (retrain=lr_rewind)"]),
        ({"budget": "macs"}, {"budget": "units"}, ["usp (budget=macs)", "usp (budget=units)"]),
        (
            {"budget": "macs", f"{PRUNER}.budget.of": "macs"},
            {"budget": "units", f"{PRUNER}.budget.of": "units"},
            ["usp (budget=macs)", "usp (budget=units)"],
        ),
        ({"augment.pad": 4}, {"augment.pad": 4}, ["usp", "usp"]),
    ],
)
def test_settings_that_were_not_typed_name_the_method_where_they_differ(
    add: Add, first: dict[str, Any], second: dict[str, Any], expected: list[str]
) -> None:
    assert methods(add, {"values": first}, {"values": second}) == expected


def test_what_follows_the_rate_names_nothing(add: Add) -> None:
    jobs = [{"rate": rate, "values": flat({RATE: rate})} for rate in (0.0, 0.2, 0.8)]
    assert methods(add, *jobs) == ["usp"] * 3


def test_an_edited_criterion_of_ones_own_is_another_method(add: Add) -> None:
    values = {f"{PRUNER}.criterion._target_": "mine.Score"}
    jobs = [{"values": values, "versions": {"mine.Score": digest}} for digest in ("aa", "bb", "bb")]
    assert methods(add, *jobs) == [f"usp (code of mine.Score={digest})" for digest in ("aa", "bb", "bb")]


def test_settings_are_added_to_those_that_were_typed(add: Add) -> None:
    typed = ["prune=usp", f"{PRUNER}.scope=global"]
    jobs = [{"overrides": typed, "values": {END: end}} for end in (0.5, 0.75)]
    assert methods(add, *jobs) == [f"usp (schedule.end={end}, scope=global)" for end in (0.5, 0.75)]


def test_no_setting_of_a_budget_or_of_retraining_makes_another_dense_network(add: Add) -> None:
    jobs = [{"method": "none", "rate": 0, "values": {"optim.finetune": lr}} for lr in (0.01, 0.001)]
    assert methods(add, *jobs) == ["none"] * 2
