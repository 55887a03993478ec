"""Means over seeds: a line for each method with its interval, and the unpruned network across."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from charting import only, strokes, svg

from prunelab.report.confidence import interval
from prunelab.report.figures import means, palette

Add = Callable[..., Path]


def test_rate_figure_has_a_line_per_method_and_labels(sweep: Path) -> None:
    text = svg(means.over_rate(only(sweep)))
    assert strokes(text) == list(palette.METHODS[:2])
    for words in (
        "over rate",
        "rate (fraction of units removed)",
        "test accuracy (%)",
        "method",
        "usp",
        "sp",
    ):
        assert words in text


def test_the_unpruned_network_goes_across(add: Add) -> None:
    add("none", 0.0)
    text = svg(means.over_rate(only(add("usp", 0.5).parent)))
    assert "stroke-dasharray" in text


def test_a_rate_near_one_is_not_labelled_one(add: Add) -> None:
    for rate in (0.0, 0.98):
        job = add("usp", rate)
    assert ">0.98</text>" in svg(means.over_rate(only(job.parent)))


def test_rates_near_one_stand_apart_beside_the_unpruned_network(add: Add) -> None:
    """By the logarithm of what is left: 0.9, 0.95 and 0.98 as far from each other as halves of a network are."""
    add("none", 0.0)
    for rate in (0.9, 0.95, 0.98):
        job = add("usp", rate)
    text = svg(means.over_rate(only(job.parent)))
    labels = re.findall(r"translate\(([\d.]+),[^>]*>(0(?:\.9\d?)?)</text>", text)
    places = {label: float(place) for place, label in labels}
    assert sorted(places) == ["0", "0.9", "0.95", "0.98"]
    assert places["0.95"] - places["0.9"] > 60
    assert places["0.98"] > places["0.95"] > places["0.9"] > places["0"]


def test_a_bar_is_the_interval_of_the_mean_and_shows_beside_points_without_one(add: Add) -> None:
    accuracies = (0.5, 0.6, 0.8)
    add("usp", 0.2)
    for seed, accuracy in enumerate(accuracies):
        job = add("usp", 0.4, seed, accuracy=accuracy)
    spec = means.over_rate(only(job.parent))
    _, row = spec["datasets"]["points"]
    assert (row["lower"], row["upper"]) == pytest.approx(interval([100 * a for a in accuracies]))
    text = svg(spec)
    assert "faint: single jobs, bar: the mean's 95 % confidence interval (Student's t)" in text
    heights = [float(h) for h in re.findall(r'aria-roledescription="rule mark"[^>]*y2="(-?[\d.]+)"', text)]
    assert any(abs(height) > 20 for height in heights)


def test_marks_of_single_jobs_have_their_overrides_and_name(sweep: Path) -> None:
    group = only(sweep)
    rows = means.over_rate(group)["datasets"].get("jobs", [])
    if max(group.seeds) > 1:
        assert {row["job"] for row in rows} == {r.folder.name for r in group.results}
        assert all(row["overrides"].startswith("prune=") for row in rows)
    else:
        assert rows == []  # the means are the jobs


def test_costs_that_differ_have_a_figure_and_others_none(add: Add) -> None:
    for rate in (0.2, 0.4):
        job = add("usp", rate)
    assert list(means.charts(only(job.parent))) == [
        "accuracy_over_rate", "mean_accuracy_over_macs", "mean_accuracy_over_bops", "mean_accuracy_over_bytes",
        "mean_accuracy_over_latency",
    ]  # fmt: skip
    assert list(means.charts(only(add("usp", 0.2, folder="x/x=1").parent))) == ["accuracy_over_rate"]


def test_latency_is_a_share_of_the_dense_networks(sweep: Path) -> None:
    for result in only(sweep).results:
        assert result.latency == pytest.approx(1 - result.job.rate / 2)


def test_jobs_that_did_not_measure_a_cost_are_left_out_with_a_note(add: Add) -> None:
    bare = {"params": 10, "nonzero": 5, "macs": 400, "bops": 1}
    add("usp", 0.6, cost={"dense": bare, "pruned": bare})
    add("usp", 0.4)
    drawn = means.charts(only(add("usp", 0.2).parent))
    assert "mean_accuracy_over_latency" in drawn
    spec = drawn["mean_accuracy_over_latency"]()
    assert [row["rate"] for row in spec["datasets"]["points"]] == [0.2, 0.4]
    assert "2 of 3 jobs: the others did not measure it" in svg(spec)


def test_rows_whose_seeds_were_timed_apart_are_left_out_of_latency(add: Add) -> None:
    """As in the table: a mean of shares that two machines measured means nothing."""
    for seed in (0, 1):
        for rate in (0.2, 0.4, 0.6):
            job = add("usp", rate, seed)
    path = job.parent / "prune=usp,rate=0.4,seed=1" / "result.json"
    path.write_text(path.read_text().replace('"threads": 2', '"threads": 1'))
    spec = means.charts(only(job.parent))["mean_accuracy_over_latency"]()
    assert [row["rate"] for row in spec["datasets"]["points"]] == [0.2, 0.6]
    assert "4 of 6 jobs: the others did not measure it, or not all seeds on one machine" in svg(spec)


@pytest.mark.parametrize(
    ("budgets", "axis"),
    [
        (("macs", "macs"), "rate (fraction of MACs removed)"),
        (("filters", "filters"), "rate (fraction of filters removed)"),
        (("units", "macs"), "rate"),
    ],
)
def test_the_axis_says_what_a_rate_is_a_fraction_of(add: Add, budgets: tuple[str, str], axis: str) -> None:
    for rate, of in zip((0.3, 0.5), budgets, strict=True):
        job = add("sp", rate, budget={"of": of, "asked": rate, "attained": rate + 0.01})
    assert f">{axis}</text>" in svg(means.over_rate(only(job.parent)))


def test_rates_that_are_not_what_was_removed_are_called_rates_alone(add: Add) -> None:
    """As with rates by layer, whose `rate` is that of the other layers."""
    add("usp", 0.0, budget={"of": "units", "asked": 0.0, "attained": 0.0})
    job = add("usp", 0.95, budget={"of": "units", "asked": 0.95, "attained": 0.7})
    spec = means.over_rate(only(job.parent))
    assert ">rate, log scale of what is left</text>" in svg(spec)
    assert "share left" in str(spec)
