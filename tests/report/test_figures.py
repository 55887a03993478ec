"""Do the figures show every line, in the right place, in colours that can be told apart?"""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunelab.report import figures, palette, series
from prunelab.report.groups import Group, group
from prunelab.report.results import load
from prunelab.report.series import Point

Add = Callable[..., Path]


def only(sweep: Path) -> Group:
    [one] = group(load(sweep)[0])
    return one


def svg(chart: Any) -> str:
    return figures.render(chart, "svg").decode()


def strokes(text: str) -> list[str]:
    """The colour of each line that was drawn, in order."""
    marks = re.findall(r'<g class="mark-line role-mark.*?</g>', text, flags=re.DOTALL)
    return re.findall(r'stroke="(#\w+)"', " ".join(marks))


def axis(chart: Any) -> list[float]:
    spec = chart.to_dict()
    return next(layer["encoding"]["y"]["scale"]["domain"] for layer in spec["layer"])


def test_epochs_figure_has_a_line_per_rate_and_says_what_it_shows(sweep: Path) -> None:
    text = svg(figures.over_epochs(only(sweep), "sp"))
    assert strokes(text) == palette.ordered(5)
    for words in ("Test accuracy over epochs: sp", "epoch", "test accuracy (%)", "rate", "keras_cnn on"):
        assert words in text
    assert all(f">{rate}</text>" in text for rate in ("0", "0.2", "0.4", "0.6", "0.8"))


def test_rate_figure_has_a_line_per_method_and_says_what_it_shows(sweep: Path) -> None:
    text = svg(figures.over_rate(only(sweep)))
    assert strokes(text) == list(palette.OKABE_ITO[:2])
    for words in (
        "over rate",
        "rate (fraction of units removed)",
        "test accuracy (%)",
        "method",
        "usp",
        "sp",
    ):
        assert words in text


def test_a_band_is_drawn_and_explained_when_seeds_differ(sweep: Path) -> None:
    group = only(sweep)
    text = svg(figures.over_epochs(group, "usp"))
    assert ("band: lowest to highest" in text) == (max(group.seeds) > 1)


def test_figures_of_all_methods_share_axis_and_colours(add: Add) -> None:
    for method, rate in (("usp", 0.0), ("usp", 0.4), ("usp", 0.8), ("sp", 0.8)):
        job = add(method, rate)
    group = only(job.parent)
    usp, sp = figures.over_epochs(group, "usp"), figures.over_epochs(group, "sp")
    assert axis(usp) == axis(sp)
    assert strokes(svg(sp)) == strokes(svg(usp))[-1:]


def test_a_method_without_a_curve_has_no_epochs_figure(add: Add) -> None:
    add("usp")
    job = add("sp", history=[])
    assert list(figures.charts(only(job.parent))) == ["accuracy_over_rate", "accuracy_over_epochs-usp"]


def test_the_unpruned_net_goes_across(add: Add) -> None:
    add("none", 0.0)
    text = svg(figures.over_rate(only(add("usp", 0.5).parent)))
    assert "stroke-dasharray" in text


def test_a_rate_near_one_is_not_labelled_one(add: Add) -> None:
    for rate in (0.0, 0.98):
        job = add("usp", rate)
    assert ">0.98</text>" in svg(figures.over_rate(only(job.parent)))


def test_png_is_sharp_and_not_blank(sweep: Path) -> None:
    picture = figures.render(figures.over_rate(only(sweep)), "png")
    width, height = struct.unpack(">II", picture[16:24])
    assert picture.startswith(b"\x89PNG")
    assert 1100 < width < 1400
    assert 700 < height < 1000
    assert len(picture) > 20_000


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(15.0, 90.0, (0, 100)), (70.0, 80.0, (69, 81)), (75.0, 75.0, (74, 76)), (99.0, 99.9, (98, 100))],
)
def test_axis_holds_all_accuracies_with_little_to_spare(low: float, high: float, expected: tuple[int, int]) -> None:
    assert series.domain([Point("usp", 0.0, 1, high, low, high)]) == expected


def test_points_are_mean_and_range_over_seeds(add: Add) -> None:
    for seed, accuracy in enumerate((0.5, 0.6, 0.8)):
        job = add("usp", 0.2, seed, accuracy=accuracy)
    [point] = series.over_rates(only(job.parent).results)
    assert (point.mean, point.low, point.high) == pytest.approx((190 / 3, 50, 80))


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_rate_colours_get_lighter_in_order_and_stay_visible_on_white() -> None:
    shades = [luminance(colour) for colour in palette.ordered(9)]
    assert shades == sorted(set(shades))
    assert 1.05 / (shades[-1] + 0.05) > 2
    assert palette.ordered(1) == [palette.VIRIDIS[0]]


def test_no_two_of_forty_methods_look_the_same() -> None:
    looks = list(zip(*palette.categorical(["none", *(f"m{i}" for i in range(40))]), strict=True))
    assert len(set(looks)) == 41
