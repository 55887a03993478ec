"""A report names the command that makes the study, if there is one."""

import json
import os
import shlex
from collections.abc import Callable
from itertools import product
from pathlib import Path

from prunelab.report.provenance import facts, studied
from prunelab.report.results import load

Add = Callable[..., Path]


def jobs(**values: str) -> list[tuple[str, ...]]:
    """All combinations, as a sweep asks for them."""
    columns = [[f"{key}={value}" for value in text.split()] for key, text in values.items()]
    return [*product(*columns)]


def test_a_grid_is_one_sweep_whose_jobs_are_these() -> None:
    [command] = studied(jobs(prune="usp sp", rate="0 0.5", epochs="3"))
    assert command == "python -m train -m prune=usp,sp rate=0,0.5 epochs=3"


def test_one_job_is_no_sweep_and_is_quoted_for_a_shell() -> None:
    [command] = studied([("prune=usp", "data.root=my images")])
    assert shlex.split(command) == ["python", "-m", "train", "prune=usp", "data.root=my images"]


def test_other_rates_for_a_method_are_another_command() -> None:
    parts = jobs(prune="none", rate="0") + jobs(prune="usp", rate="0.5 0.8")
    assert studied(parts) == ["python -m train prune=none rate=0", "python -m train -m prune=usp rate=0.5,0.8"]


def test_a_combination_that_nobody_ran_is_in_no_command() -> None:
    assert studied(jobs(prune="usp", rate="0 0.5", seed="0 1")[:3]) == []


def test_a_job_that_failed_was_part_of_the_command(add: Add) -> None:
    add("usp", 0.0, overrides=["prune=usp", "rate=0"])
    failed = add("usp", 0.5, overrides=["prune=usp", "rate=0.5"])
    (failed / "result.json").rename(failed / "job.json")
    found = facts(*load(failed.parent))
    assert found["command"] == ["python -m train -m prune=usp rate=0,0.5 name=demo"]


def test_days_and_machine_are_those_of_the_results(add: Add) -> None:
    for seed, noon in enumerate((1_795_000_000, 1_795_200_000)):
        job = add(seed=seed, versions={"torch": "2.15.0", "commit": None})
        os.utime(job / "result.json", (noon, noon))
    found = facts(*load(job.parent))
    [days] = found["written"]
    assert days.count("November 2026") == 2
    assert found["machine"] == ["cpu, 2 threads, in float32, not compiled"]
    assert found["versions"] == ["torch 2.15.0"]
    assert json.dumps(found)
