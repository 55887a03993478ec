"""Benchmarks keep up with what they measure; those on a GPU by an interpreter that only notes how it was called."""

import os
import random
import runpy
import subprocess
from pathlib import Path

import pytest
from compose import compose_job, job_from
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from prunelab.store.result import Result

SCRIPT = Path(__file__).parents[1] / "bench" / "gpu.sh"


def called(tmp_path: Path, part: str, failing: str = "nothing") -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """How the script ends, and the arguments of each call of its interpreter, which fails at some."""
    python, calls = tmp_path / "python", tmp_path / "calls"
    python.write_text(
        f'#!/bin/sh\nprintf \'%s\\t\' "$@" >> {calls}\necho >> {calls}\ncase "$*" in {failing}) exit 1; esac\n'
    )
    python.chmod(0o755)
    environment = os.environ | {"PYTHON": str(python)}
    done = subprocess.run(["bash", SCRIPT, part, "images"], env=environment, capture_output=True, text=True)
    return done, calls.read_text().splitlines()


def test_a_part_that_fails_stops_itself_and_no_other_and_is_named_at_the_end(tmp_path: Path) -> None:
    done, calls = called(tmp_path, "all", failing="*pytest* | *name=gpu-at_init*")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "bench/gpu.sh: failed: tests at_init"
    assert sum("name=gpu-at_init" in call for call in calls) == 1  # of three
    assert "name=gpu-pool-4" in calls[-1]


@pytest.mark.parametrize("part", ["usp", "sp", "rewinding", "at_init", "channels", "scan", "pool"])
def test_every_job_of_a_part_composes(part: str, tmp_path: Path) -> None:
    (weights := tmp_path / "weights.pt").touch()
    done, calls = called(tmp_path, part)
    assert done.returncode == 0
    for call in calls:
        words = call.rstrip("\t").split("\t")
        assert words[:3] == ["-m", "train", "-m"]
        sweep = OverridesParser.create().parse_overrides(
            [f"pretrained={weights}" if "=outputs/" in word.replace("'", "") else word for word in words[3:]]
        )
        for overrides in BasicSweeper.split_arguments(sweep, None)[0]:
            assert job_from(compose_job(overrides, tmp_path)).config["trainer"]["accelerator"] == "gpu"


def test_the_results_that_scaling_makes_up_are_results(tmp_path: Path) -> None:
    made = runpy.run_path(str(SCRIPT.with_name("scaling.py")))["result"](7, random.Random(0))
    assert Result.from_json(made, tmp_path).timed_on
