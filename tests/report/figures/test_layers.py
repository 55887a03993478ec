"""Sparsity by layer and over time: each cell holds the number of the result files."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from charting import only, svg, values

from prunelab.report.figures import layers

Add = Callable[..., Path]


def counts(zeros: int, weights: int) -> dict[str, int]:
    return {"units": weights, "removed": zeros, "weights": weights, "zeros": zeros}


def test_bars_are_the_zeros_of_each_layer_over_seeds(add: Add) -> None:
    for seed, zeros in enumerate((10, 30)):
        by_layer = {"a.weight": counts(zeros, 100), "b.weight": counts(5, 10)}
        whole = {"units": 110, "removed": zeros + 5, "zero_weights": (zeros + 5) / 110, "collapsed": []}
        sparsity = {"attained": 0.2, "layers": by_layer} | whole
        job = add("usp", 0.2, seed, sparsity=sparsity)
    group = only(job.parent)
    spec = layers.by_layer(group, list(group.results))
    rows = values(spec)
    assert [(row["layer"], row["sparsity"], row["n"]) for row in rows] == [("a", 0.2, 2), ("b", 0.5, 2)]
    assert ">a</text>" in svg(spec)


def test_the_heat_map_has_a_cell_for_each_layer_and_epoch(add: Add) -> None:
    group = only(add("usp", 0.4).parent)
    spec = layers.by_time(group, group.results[0])
    rows = values(spec)
    cells = {(row["layer"], row["epoch"]): row["removed"] for row in rows}
    assert len(cells) == len(rows) == 20
    assert cells["conv", 5] == pytest.approx(0.2)
    assert cells["fc", 1] == pytest.approx(0.4)


@pytest.mark.parametrize("last", [1, 2, 3, 12])
def test_the_heat_map_labels_each_epoch_of_a_short_run_once(add: Add, last: int) -> None:
    rows = [{"epoch": e, "step": e, "test_acc": 0.5, "seconds": 1.0, "layers": {"fc": 0.5}} for e in range(1, last + 1)]
    group = only(add("usp", 0.4, history=rows).parent)
    labels = re.findall(r">(\d+)</text>", svg(layers.by_time(group, group.results[0])))
    assert labels == [str(epoch) for epoch in range(1, last + 1)]


def test_long_runs_have_no_more_columns_than_can_be_seen(add: Add) -> None:
    rows = [{"epoch": e, "step": e, "test_acc": 0.5, "seconds": 1.0, "layers": {"fc": e / 1000}} for e in range(1, 302)]
    group = only(add("usp", 0.4, history=rows).parent)
    spec = layers.by_time(group, group.results[0])
    cells = values(spec)
    assert [(c["epoch"], c["from"], c["to"]) for c in cells[:2]] == [(1, 0.5, 1.5), (7, 1.5, 7.5)]
    assert cells[-1]["epoch"] == 301
    assert len(cells) <= layers.TIMES


def test_unpruned_networks_have_none(add: Add) -> None:
    assert layers.charts(only(add("none", 0.0).parent)) == {}
