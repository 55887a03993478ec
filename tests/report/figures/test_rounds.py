"""Rounds are drawn over the units removed by then, with their final accuracies."""

from collections.abc import Callable
from pathlib import Path

import pytest
from charting import only, svg, values

from prunelab.report.figures import rounds

Add = Callable[..., Path]


def test_rounds_are_means_over_seeds(add: Add) -> None:
    for seed in (0, 1):
        ends = [{"round": k, "sparsity": 0.3 * k, "test_acc": 0.8 - 0.1 * k + 0.02 * seed} for k in range(3)]
        job = add("lottery", 0.6, seed, rounds=ends)
    add("usp", 0.6)
    group = only(job.parent)
    assert list(rounds.charts(group)) == ["accuracy_by_round-lottery"]
    spec = rounds.charts(group)["accuracy_by_round-lottery"]()
    rows = values(spec)
    assert [row["x"] for row in rows] == pytest.approx([0, 30, 60])
    assert [row["mean"] for row in rows] == pytest.approx([81, 71, 61])
    assert {row["n"] for row in rows} == {2}
    assert "end of each round: lottery" in svg(spec)


def test_methods_stand_side_by_side_at_their_highest_rate(add: Add) -> None:
    """Tickets and their controls; what several rates add has a figure of its own."""
    for method, rate in (("lottery", 0.36), ("lottery", 0.96), ("reinit", 0.96)):
        removed = (0.0, rate / 2, rate)
        ends = [{"round": k, "sparsity": x, "test_acc": 0.8 - x / 2} for k, x in enumerate(removed)]
        job = add(method, rate, rounds=ends)
    group = only(job.parent)
    drawn = rounds.charts(group)
    assert list(drawn) == ["accuracy_by_round", "accuracy_by_round-lottery"]
    spec = drawn["accuracy_by_round"]()
    assert [(row["line"], row["x"]) for row in values(spec)] == [
        (method, pytest.approx(left)) for method in ("lottery", "reinit") for left in (100, 52, 4)
    ]
    text = svg(spec)
    for words in ("end of each round, rate 0.96", "units left (%), log scale", ">100</text>", ">5</text>"):
        assert words in text
    other = only(add("imp", 0.2, rounds=ends).parent)
    assert "each round, each method at its highest rate" in svg(rounds.charts(other)["accuracy_by_round"]())
