"""The Pareto front holds exactly the jobs that no other one dominates; tables and figures show it."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from charting import svg

from prunelab.report.figures import tradeoff
from prunelab.report.figures.costs import MACS
from prunelab.report.groups import MANY, group
from prunelab.report.pareto import by_macs, hypervolume, pareto_optimal, same_images, settings
from prunelab.report.results import load
from prunelab.report.summary import write

Add = Callable[..., Path]


def brute_force(points: list[tuple[float, float]]) -> list[bool]:
    return [
        not any(a >= accuracy and c <= cost and (a, c) != (accuracy, cost) for a, c in points)
        for accuracy, cost in points
    ]


@pytest.mark.parametrize("values", [3, 10, 1000])
def test_the_front_is_what_comparing_all_pairs_finds(values: int) -> None:
    rng = random.Random(values)
    for n in range(60):
        points = [(float(rng.randrange(values)), float(rng.randrange(values))) for _ in range(n)]
        assert pareto_optimal(points) == brute_force(points)


@pytest.mark.usefixtures("undrawn")
def test_summary_lists_the_front_by_macs_with_the_settings(add: Add) -> None:
    for method, rate, accuracy in (("usp", 0.2, 0.9), ("usp", 0.8, 0.7), ("sp", 0.2, 0.8), ("sp", 0.5, 0.8)):
        overrides = [f"prune={method}", f"rate={rate}", "seed=0", f"optim.lr={accuracy}"]
        job = add(method, rate, accuracy=accuracy, overrides=overrides)
    write(job.parent)
    front = (job.parent / "summary.md").read_text().partition("### Pareto front")[2].split("\n\n")[1].splitlines()[2:]
    assert [line.split(" | ")[:3] for line in front] == [
        ["| usp", "0.8", "70.00"], ["| sp", "0.5", "80.00"], ["| usp", "0.2", "90.00"],
    ]  # fmt: skip
    assert "| 32k (80.0%) | 800 (80.0%) | `optim.lr=0.9` |" in front[-1]


def test_there_is_no_front_and_no_figure_of_equal_costs(add: Add) -> None:
    add("usp", 0.2, 1)
    results, _ = load(add("usp", 0.2, 0).parent)
    assert by_macs(results) == []
    assert tradeoff.charts(results) == {}


def test_hypervolume_is_the_area_under_the_steps_by_hand() -> None:
    # The dominated point at 90 % of the cost adds nothing.
    points = [(0.7, 0.2), (0.8, 0.5), (0.9, 0.8), (0.6, 0.9)]
    assert hypervolume(points) == pytest.approx(0.3 * 0.7 + 0.3 * 0.8 + 0.2 * 0.9)


def test_a_point_that_costs_more_than_the_unpruned_network_adds_no_area() -> None:
    assert hypervolume([(0.9, 1.2)]) == 0
    assert hypervolume([(0.5, 0.4), (0.9, 1.2)]) == pytest.approx(0.3)


@pytest.mark.parametrize("seed", range(5))
def test_hypervolume_is_the_share_of_random_points_that_are_dominated(seed: int) -> None:
    rng = random.Random(seed)
    points = [(rng.random(), rng.random()) for _ in range(6)]
    draws = [(rng.random(), rng.random()) for _ in range(20_000)]
    dominated = sum(any(accuracy >= y and cost <= x for accuracy, cost in points) for x, y in draws)
    assert hypervolume(points) == pytest.approx(dominated / 20_000, abs=0.015)


@pytest.mark.usefixtures("undrawn")
def test_hypervolumes_are_of_means_and_say_over_how_many_rates(add: Add) -> None:
    for seed, accuracy in enumerate((0.7, 0.9)):
        add("usp", 0.5, seed, accuracy=accuracy)
    add("usp", 0.8, accuracy=0.5)
    add("none", 0.0, accuracy=0.9)
    job = add("sp", 0.6, accuracy=0.5)
    write(job.parent)
    assert ": usp 0.550 (2 rates)." in (job.parent / "summary.md").read_text()  # 0.3 * 0.5 + 0.5 * 0.8


def test_of_very_many_dominated_jobs_an_even_subset_is_drawn_with_a_note(add: Add, monkeypatch) -> None:
    monkeypatch.setattr(tradeoff, "CROWD", 3)
    for seed in range(10):
        job = add("usp", 0.5, seed, accuracy=0.5)
    add("usp", 0.6, accuracy=0.9)
    chart = tradeoff.over_cost(load(job.parent)[0], MACS)
    assert len(chart["datasets"]["dominated"]) == 3
    assert "a point for each of 11 jobs, 3 of the 10 dominated ones drawn" in svg(chart)


def test_jobs_on_other_images_are_not_compared(add: Add) -> None:
    for rate, data in ((0.0, "a"), (0.5, "a"), (0.0, "b"), (0.5, "b")):
        job = add("usp", rate, folder=f"x={rate}{data}", comparable=data, data={"fingerprint": data})
    results, _ = load(job.parent)
    assert [len(jobs) for jobs in same_images(results).values()] == [2, 2]
    assert set(tradeoff.charts(results)) == {
        f"pareto_front_over_{cost}-data={data}" for cost in ("macs", "parameters", "bytes") for data in "ab"
    }


def test_figure_shows_every_job_and_joins_the_front(add: Add) -> None:
    for method, rate, accuracy in (("usp", 0.2, 0.9), ("usp", 0.8, 0.7), ("sp", 0.2, 0.8), ("sp", 0.5, 0.8)):
        job = add(method, rate, accuracy=accuracy)
    results, _ = load(job.parent)
    chart = tradeoff.over_cost(results, MACS)
    faint, front = (chart["datasets"][name] for name in ("dominated", "front"))
    assert [(r["method"], r["accuracy"], r["rate"]) for r in faint] == [("sp", 80, 0.2)]
    assert [(r["method"], r["accuracy"], r["rate"]) for r in front] == [
        ("sp", 80, 0.5),
        ("usp", 90, 0.2),
        ("usp", 70, 0.8),
    ]
    text = svg(chart)
    assert all(words in text for words in ("MACs left, per image", "4 jobs", "usp", "sp", "test accuracy (%)"))
    line = text.partition("mark-line")[2].partition('d="')[2].partition('"')[0]
    assert line.count("L") == 2  # three points


def test_a_figure_without_dominated_jobs_has_no_layer_for_them(add: Add) -> None:
    for rate, accuracy in ((0.2, 0.9), (0.8, 0.7)):
        job = add("usp", rate, accuracy=accuracy)
    chart = tradeoff.over_cost(load(job.parent)[0], MACS)
    assert set(chart["datasets"]) == {"front"}


@pytest.mark.parametrize(("rates", "scale"), [((0.0, 0.5), "linear"), ((0.0, 0.95), "log")])
def test_costs_far_apart_get_a_logarithmic_axis(rates: tuple[float, float], scale: str, add: Add) -> None:
    for rate in rates:
        job = add("usp", rate)
    x = tradeoff.over_cost(load(job.parent)[0], MACS)["layer"][0]["encoding"]["x"]
    assert x["scale"].get("type", "linear") == scale
    assert ("log scale" in x["title"]) == (scale == "log")


@pytest.mark.usefixtures("undrawn")
def test_many_single_jobs_share_one_table_and_have_no_figures_of_one_point(add: Add) -> None:
    for i in range(MANY + 1):
        config = {"epochs": 10, "optim": {"lr": i}}
        job = add("usp", i / 10, folder=f"lr={i}", comparable=f"{i}", config=config, overrides=[f"optim.lr={i}"])
    done = write(job.parent)
    [(members, rows)] = done.tables
    assert [row.method for row in rows] == [f"usp (optim.lr={i})" for i in range(MANY + 1)]
    drawn = {path.stem for path in done.paths} - {"summary", "report"}
    assert drawn == {f"pareto_front_over_{cost}" for cost in ("macs", "parameters", "bytes")}
    assert members.setting.startswith("keras_cnn on image_folder, 10 epochs")


def test_single_jobs_stand_beside_groups_of_several(add: Add) -> None:
    for i in range(MANY + 1):
        add("usp", folder=f"lr={i}", comparable=f"{i}", config={"epochs": 10, "optim": {"lr": i}})
    for seed in (0, 1):
        job = add("usp", 0.2, seed, folder=f"lr=9,{seed}", comparable="9", config={"epochs": 10, "optim": {"lr": 9}})
    assert [g.label for g in group(load(job.parent)[0])] == ["optim.lr=9", "settings=various"]


def test_settings_leave_out_what_all_jobs_share(add: Add) -> None:
    add("usp", 0.2, overrides=["prune=usp", "rate=0.2", "epochs=3", "lr=1"])
    results, _ = load(add("usp", 0.4, overrides=["prune=usp", "rate=0.4", "epochs=3"]).parent)
    assert [settings(r, results) for r in results] == ["lr=1", ""]
