"""Figures of scans and sensitivities show the numbers of the result."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from charting import svg, values

from prunelab.report.figures import scan
from prunelab.report.results import load
from prunelab.report.summary import write

Add = Callable[..., Path]
PARTS = {"criterion": "Norm(p=1)", "granularity": "Weight", "allocation": "Uniform()"}
CURVES: dict[str, Any] = {
    "rates": [0.0, 0.25, 0.5, 0.625, 0.75],
    "accuracy": [0.8, 0.8, 0.5, 0.4, 0.1],
    "reestimated": [0.79, 0.79, 0.785, 0.7, 0.4],
    "knee": {"accuracy": 0.25, "reestimated": 0.5},
    "windows": [[0.25, 0.5], [0.5, 0.75]],
    "tolerance": 0.01,
    "n": 10000,
    "statistics_from": 2560,
}
ROWS = {"net.conv1.weight": [0.8, 0.7, 0.1], "net.fc.weight": [0.8, 0.8, 0.75]}


def scanned(**changes: Any) -> dict[str, Any]:
    return PARTS | CURVES | changes


def layers() -> dict[str, Any]:
    return PARTS | {"rates": [0.0, 0.5, 0.9], "layers": ROWS, "reestimated": None, "n": 2000, "statistics_from": 0}


@pytest.mark.usefixtures("undrawn")
def test_a_job_has_its_curve_each_window_and_its_map(add: Add) -> None:
    job = add("scan", 0, scan=scanned(), sensitivity=layers())
    results, _ = load(job.parent)
    assert list(scan.charts(results)) == ["scan", "scan-0.25_to_0.5", "scan-0.5_to_0.75", "sensitivity"]
    done = write(job.parent)
    assert not done.failures
    assert {f"{name}.png" for name in scan.charts(results)} <= {path.name for path in done.paths}


def test_jobs_that_scanned_nothing_have_no_such_figure(sweep: Path) -> None:
    assert scan.charts(load(sweep)[0]) == {}


def test_the_curve_has_both_lines_and_marks_each_knee_once(add: Add) -> None:
    results, _ = load(add("scan", 0, scan=scanned()).parent)
    chart = scan.over_rates(results[0])
    rows = chart["datasets"]["points"]
    assert [(r["rate"], r["accuracy"]) for r in rows if "trained" in r["curve"]] == [
        (rate, 100 * accuracy) for rate, accuracy in zip(CURVES["rates"], CURVES["accuracy"], strict=True)
    ]
    assert [r["label"] for r in rows if r["knee"]] == ["knee at 0.25", "knee at 0.5"]
    text = svg(chart)
    for words in (
        "re-estimated",
        "10,000 test images",
        "2,560 training images",
        "drops by no more than 1 point",
        "knee at",
    ):
        assert words in text, words
    assert len(re.findall(r">knee at ", text)) == 2


def test_a_window_shows_its_own_rates_alone(add: Add) -> None:
    results, _ = load(add("scan", 0, scan=scanned()).parent)
    rows = scan.over_rates(results[0], [0.25, 0.5])["datasets"]["points"]
    assert {row["rate"] for row in rows} == {0.25, 0.5}


def test_a_network_without_batch_norm_has_one_line_and_a_curve_without_knee_no_mark(add: Add) -> None:
    scan_result = scanned(reestimated=None, knee={"accuracy": None}, windows=[], statistics_from=0)
    results, _ = load(add("scan", 0, scan=scan_result).parent)
    text = svg(scan.over_rates(results[0]))
    assert "re-estimated" not in text
    assert "knee at" not in text


def test_the_map_has_layers_down_in_their_order_and_rates_across(add: Add) -> None:
    results, _ = load(add("sensitivity", 0, sensitivity=layers()).parent)
    spec = scan.over_layers(results[0], "layers")
    rows = values(spec)
    assert [(r["layer"], r["rate"], r["accuracy"]) for r in rows] == [
        ("conv1", "0", 80), ("conv1", "0.5", 70), ("conv1", "0.9", 10),
        ("fc", "0", 80), ("fc", "0.5", 80), ("fc", "0.9", 75),
    ]  # fmt: skip
    assert spec["layer"][0]["encoding"]["y"]["sort"] == ["conv1", "fc"]


def test_reestimated_statistics_have_a_map_of_their_own(add: Add) -> None:
    reestimated = {"net.conv1.weight": [0.79, 0.75, 0.4], "net.fc.weight": [0.79, 0.79, 0.78]}
    analysis = layers() | {"reestimated": reestimated, "statistics_from": 2560}
    results, _ = load(add("sensitivity", 0, sensitivity=analysis).parent)
    drawn = {name: draw() for name, draw in scan.charts(results).items()}
    assert list(drawn) == ["sensitivity", "sensitivity-reestimated"]
    for spec, rows in zip(drawn.values(), (ROWS, reestimated), strict=True):
        assert [row["accuracy"] for row in values(spec)] == [100 * a for row in rows.values() for a in row]
    note = "statistics of 2,560 training images"
    assert [note in svg(spec) for spec in drawn.values()] == [False, True]


def test_figures_of_several_jobs_are_named_by_their_settings(add: Add) -> None:
    for criterion in ("taylor", "magnitude"):
        overrides = ["prune=scan", f"prune/criterion={criterion}"]
        job = add("scan", 0, folder=f"criterion={criterion}", overrides=overrides, scan=scanned(windows=[]))
    names = [name.partition("~")[0] for name in scan.charts(load(job.parent)[0])]
    assert names == ["scan-prune_criterion=magnitude", "scan-prune_criterion=taylor"]


def test_jobs_with_long_settings_alike_at_the_front_keep_their_own_figures(add: Add) -> None:
    for i in range(2):
        overrides = ["prune=scan", f"pretrained={'x' * 100}{i}"]
        job = add("scan", 0, folder=f"x={i}", comparable=str(i), overrides=overrides, scan=scanned(windows=[]))
    assert len(scan.charts(load(job.parent)[0])) == 2
