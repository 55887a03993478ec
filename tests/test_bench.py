"""Benchmarks keep up with what they measure; those on a GPU by an interpreter that only notes how it was called."""

import os
import random
import re
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
    (tmp_path / "images").mkdir()
    command = ["bash", SCRIPT, part, "images"]  # as seen from where it was typed
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    return done, calls.read_text().splitlines()


def test_a_part_that_fails_stops_itself_and_no_other_and_is_named_at_the_end(tmp_path: Path) -> None:
    done, calls = called(tmp_path, "all", failing="*-m?pytest* | *name=gpu-at_init*")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "bench/gpu.sh: failed: tests at_init"
    assert sum("name=gpu-at_init" in call for call in calls) == 1  # of three
    assert "name=gpu-pool-4" in calls[-2]
    assert f"data.root={tmp_path}/images" in calls[-2]
    assert calls[-1].split() == ["-m", "prunelab", "compare", "outputs/gpu-pool-1", "outputs/gpu-pool-4"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["usp"], "usp needs an image folder: bench/gpu.sh usp DIR"),
        (["all"], "all needs an image folder: bench/gpu.sh all DIR"),
        ([], "no part called ''; expected tests, "),
        (["study", "."], "no part called study; expected tests, sparse, .* or all"),
    ],
)
def test_a_part_without_its_images_and_no_part_are_told_first(words: list[str], message: str) -> None:
    done = subprocess.run(["bash", SCRIPT, *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.match(f"bench/gpu.sh: {message}", done.stderr)


def test_no_two_parts_of_pool_share_a_training_and_each_scan_has_its_own_network(tmp_path: Path) -> None:
    _, calls = called(tmp_path, "pool")
    assert len({word for call in calls for word in call.split() if word.startswith("parents=")}) == 2
    (tmp_path / "images").rmdir()
    (tmp_path / "calls").unlink()
    _, calls = called(tmp_path, "scan")
    folders = [f"outputs/gpu-dense-{net}/30-epochs" for net in ("vgg11", "densenet40")]
    assert [word for call in calls for word in call.split() if word.startswith("pretrained=")] == [
        f"pretrained={folder}" for folder in folders
    ]
    assert [word for call in calls for word in call.split() if word.startswith("hydra.sweep.subdir=")] == [
        "hydra.sweep.subdir=30-epochs"
    ] * 2


@pytest.mark.parametrize("part", ["usp", "sp", "rewinding", "at_init", "channels", "scan", "pool"])
def test_every_job_of_a_part_composes(part: str, tmp_path: Path) -> None:
    (weights := tmp_path / "weights.pt").touch()
    done, calls = called(tmp_path, part)
    assert done.returncode == 0
    for call in calls:
        words = call.rstrip("\t").split("\t")
        if "compare" in words:
            continue
        assert words[:3] == ["-m", "train", "-m"]
        sweep = OverridesParser.create().parse_overrides(
            [f"pretrained={weights}" if word.startswith("pretrained=outputs/") else word for word in words[3:]]
        )
        for overrides in BasicSweeper.split_arguments(sweep, None)[0]:
            assert job_from(compose_job(overrides, tmp_path)).config["trainer"]["accelerator"] == "gpu"


def test_the_results_that_scaling_makes_up_are_results(tmp_path: Path) -> None:
    made = runpy.run_path(str(SCRIPT.with_name("scaling.py")))["result"](7, random.Random(0))
    assert Result.from_json(made, tmp_path).timed_on
