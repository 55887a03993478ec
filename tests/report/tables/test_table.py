"""The numbers of the table agree with numbers worked out by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from prunelab.report.groups import group
from prunelab.report.results import load
from prunelab.report.tables.table import Row, rows

Add = Callable[..., Path]


def table(sweep: Path) -> list[Row]:
    [only] = group(load(sweep)[0])
    return rows(only)


def test_means_spread_and_change_over_two_seeds(add: Add) -> None:
    for rate, seed, accuracy in ((0.0, 0, 0.80), (0.0, 1, 0.82), (0.5, 0, 0.70), (0.5, 1, 0.76)):
        job = add("usp", rate, seed, accuracy=accuracy, seconds=10.0 + 2 * seed)
    dense, half = table(job.parent)
    assert (dense.accuracy, half.accuracy) == pytest.approx((81.0, 73.0))
    assert (dense.std, half.std) == pytest.approx((2**0.5, 18**0.5))  # n - 1 in the denominator
    assert (dense.change, half.change) == pytest.approx((0.0, -8.0))
    assert (half.seeds, half.paired, half.seconds, half.attained) == ((0, 1), 2, 11.0, 0.5)
    assert (half.nonzero, half.params) == (500, 1000)
    assert (half.macs, half.dense_macs) == (20_000, 40_000)
    assert (half.bops, half.dense_bops) == (20_480_000, 40_960_000)


def test_a_single_seed_has_no_spread(add: Add) -> None:
    [row] = table(add().parent)
    assert row.std is None


def test_change_is_from_rate_0_of_the_method_which_is_compared_with_the_unpruned_network(add: Add) -> None:
    """Else binary weights, which cost accuracy at rate 0, would have a change of 0; `usp` has no rate 0."""
    add("none", 0.0, accuracy=0.9)
    add("sp", 0.0, accuracy=0.8)
    add("sp", 0.5, accuracy=0.7)
    changes = [(r.method, r.rate, r.change) for r in table(add("usp", 0.5, accuracy=0.6).parent)]
    expected = [("none", 0.0, 0.0), ("sp", 0.0, -10.0), ("sp", 0.5, -10.0), ("usp", 0.5, -30.0)]
    assert changes == [(m, r, pytest.approx(c)) for m, r, c in expected]


def test_change_is_taken_over_the_seeds_that_both_have(add: Add) -> None:
    add("usp", 0.0, 0, accuracy=0.8)
    add("usp", 0.5, 0, accuracy=0.7)
    [_, half] = table(add("usp", 0.5, 1, accuracy=0.1).parent)
    assert half.change == pytest.approx(-10.0)
    assert (half.paired, len(half.seeds)) == (1, 2)


def test_change_is_from_what_has_more_of_the_seeds(add: Add) -> None:
    """A rate 0 that was tried with one seed does not hide the change from three dense networks."""
    for seed, dense in enumerate((0.9, 0.8, 0.7)):
        add("none", 0.0, seed, accuracy=dense)
        add("usp", 0.5, seed, accuracy=0.6)
    [_, own, half] = table(add("usp", 0.0, 0, accuracy=0.75).parent)
    assert (half.change, half.paired, half.change_from) == (pytest.approx(-20.0), 3, "none")
    assert (own.change, own.paired, own.change_from) == (pytest.approx(-15.0), 1, "none")


def test_change_is_unknown_without_a_common_seed(add: Add) -> None:
    add("usp", 0.0, 0)
    [_, half] = table(add("usp", 0.5, 1).parent)
    assert half.change is None


def test_rows_go_by_method_then_by_rate(add: Add) -> None:
    for method, rate in (("usp", 0.5), ("none", 0.0), ("usp", 0.05), ("sp", 0.9)):
        job = add(method, rate)
    assert [(r.method, r.rate) for r in table(job.parent)] == [
        ("none", 0.0),
        ("sp", 0.9),
        ("usp", 0.05),
        ("usp", 0.5),
    ]


def test_epochs_are_those_of_the_whole_training(add: Add) -> None:
    """Rounds and retraining have more than the length of one training."""
    add("none", 0.0)
    job = add("neuron", 0.5, trained=20)
    dense, pruned = table(job.parent)
    assert (dense.epochs, pruned.epochs, pruned.change_epochs) == (10, 20, 10)
