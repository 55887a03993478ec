"""The sweeps of an experiment file: one after the other, at a scale, below what the command line sets."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from prunelab.sweep.params import at_scale, combinations

USP, SP = {"prune": "usp", "rate": "0,0.5"}, {"prune": "sp", "rate": 0.2}


def jobs(grids: list[dict[str, object]], *arguments: str) -> list[str]:
    return [" ".join(overrides) for overrides in combinations(grids, list(arguments), OverridesParser.create())]


def test_sweeps_follow_each_other_and_the_command_line_multiplies_each() -> None:
    assert jobs([{}], "seed=0,1") == ["seed=0", "seed=1"]
    assert jobs([USP]) == ["prune=usp rate=0", "prune=usp rate=0.5"]
    assert jobs([USP, SP], "seed=0") == [
        "prune=usp rate=0 seed=0",
        "prune=usp rate=0.5 seed=0",
        "prune=sp rate=0.2 seed=0",
    ]


def test_what_the_command_line_sets_goes_before_the_sweeps_and_no_job_comes_twice() -> None:
    assert jobs([USP], "rate=0.8") == ["prune=usp rate=0.8"]
    assert jobs([USP, SP], "prune=sp", "rate=0.2") == ["prune=sp rate=0.2"]
    assert jobs([{"data": "shapes", "data.train": 9} | SP], "data=cifar10") == ["prune=sp rate=0.2 data=cifar10"]
    assert jobs([USP | {"rate": 0, "prune.x": 1}], "prune=usp") == ["rate=0 prune.x=1 prune=usp"]
    assert jobs([SP | {"optim.batch_size": 8}], "optim=sgd") == ["prune=sp rate=0.2 optim.batch_size=8 optim=sgd"]


def test_a_scale_has_values_of_its_own() -> None:
    scales = {"smoke": {"epochs": 1}, "cpu": {"epochs": 20}}
    assert at_scale(scales, "cpu") == {"epochs": 20}
    assert at_scale(None, "cpu") == {}
    with pytest.raises(ValueError, match="scale=large: choose from smoke, cpu"):
        at_scale(scales, "large")
