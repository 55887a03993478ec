"""The sweeps of an experiment file: one after the other, at a scale, below what the command line sets."""

from types import SimpleNamespace
from typing import Any

import pytest

from prunelab.sweep.grid import GridSweeper

TWO = [{"prune": "usp", "rate": "0,0.5"}, {"prune": "sp", "rate": 0.2}]
SCALES = {"smoke": {"epochs": 1}, "cpu": {"epochs": 20, "seed": "0,1"}}


def jobs(arguments: list[str], params: Any = None, scales: Any = None, scale: str = "smoke") -> list[str]:
    sweeper = GridSweeper(params, scales)
    sweeper.config = SimpleNamespace(scale=scale)  # type: ignore[assignment]
    sweeper.hydra_context = SimpleNamespace(config_loader=None)  # type: ignore[assignment]
    return [" ".join(overrides) for overrides in sweeper.combinations(arguments)]


def test_a_dictionary_is_one_sweep_and_a_list_are_several() -> None:
    assert jobs(["seed=0,1"]) == ["seed=0", "seed=1"]
    assert jobs([], TWO[0]) == ["prune=usp rate=0", "prune=usp rate=0.5"]
    assert jobs(["seed=0"], TWO) == ["prune=usp rate=0 seed=0", "prune=usp rate=0.5 seed=0", "prune=sp rate=0.2 seed=0"]


def test_the_values_of_a_scale_are_those_of_every_sweep() -> None:
    assert jobs([], TWO[1:], SCALES) == ["epochs=1 prune=sp rate=0.2"]
    assert jobs([], TWO[1:], SCALES, "cpu") == [f"epochs=20 seed={seed} prune=sp rate=0.2" for seed in (0, 1)]
    with pytest.raises(ValueError, match="scale=large: choose from smoke, cpu"):
        jobs([], TWO, SCALES, "large")


def test_what_the_command_sets_goes_before_both_and_no_job_comes_twice() -> None:
    assert jobs(["rate=0", "epochs=2,3"], TWO[:1], SCALES) == ["prune=usp rate=0 epochs=2", "prune=usp rate=0 epochs=3"]
    assert jobs(["prune=sp", "rate=0.2"], TWO) == ["prune=sp rate=0.2"]
