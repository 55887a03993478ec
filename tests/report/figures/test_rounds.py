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
    spec = rounds.by_round(group, "lottery")
    rows = values(spec)
    assert [row["x"] for row in rows] == pytest.approx([0, 30, 60])
    assert [row["mean"] for row in rows] == pytest.approx([81, 71, 61])
    assert {row["n"] for row in rows} == {2}
    assert "end of each round: lottery" in svg(spec)
