"""Benchmarks keep up with what they measure; those on a GPU by an interpreter that only notes how it was called."""

import os
import random
import runpy
import subprocess
from pathlib import Path

from prunelab.store.result import Result

SCRIPT = Path(__file__).parents[1] / "bench" / "gpu.sh"


def test_a_part_that_fails_stops_itself_and_no_other_and_is_named_at_the_end(tmp_path: Path) -> None:
    python, calls = tmp_path / "python", tmp_path / "calls"
    python.write_text(f'#!/bin/sh\necho "$*" >> {calls}\ncase "$*" in *pytest* | *name=gpu-at_init*) exit 1; esac\n')
    python.chmod(0o755)
    environment = os.environ | {"PYTHON": str(python)}
    done = subprocess.run(["bash", SCRIPT, "all", "images"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "bench/gpu.sh: failed: tests at_init"
    lines = calls.read_text().splitlines()
    assert sum("name=gpu-at_init" in line for line in lines) == 1  # of three
    assert "name=gpu-pool-4" in lines[-1]


def test_the_results_that_scaling_makes_up_are_results(tmp_path: Path) -> None:
    made = runpy.run_path(str(SCRIPT.with_name("scaling.py")))["result"](7, random.Random(0))
    assert Result.from_json(made, tmp_path).timed_on
