"""Accuracy over epochs: a line for each rate, in distinct colours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from charting import axis, only, strokes, svg

from prunelab.report.figures import epochs, palette
from prunelab.report.groups import Group

Add = Callable[..., Path]


def drawn(group: Group, method: str) -> dict[str, Any]:
    return epochs.charts(group)[f"accuracy_over_epochs-{method}"]()


def test_epochs_figure_has_a_line_per_rate_and_labels(sweep: Path) -> None:
    text = svg(drawn(only(sweep), "sp"))
    assert strokes(text) == palette.ordered(5)
    for words in ("Test accuracy over epochs: sp", "epoch", "test accuracy (%)", "rate", "keras_cnn on"):
        assert words in text
    assert all(f">{rate}</text>" in text for rate in ("0", "0.2", "0.4", "0.6", "0.8"))


def test_a_band_is_drawn_and_explained_when_seeds_differ(sweep: Path) -> None:
    group = only(sweep)
    text = svg(drawn(group, "usp"))
    assert ("band: lowest to highest" in text) == (max(group.seeds) > 1)


def test_figures_of_all_methods_share_axis_and_colours(add: Add) -> None:
    for method, rate in (("usp", 0.0), ("usp", 0.4), ("usp", 0.8), ("sp", 0.8)):
        job = add(method, rate)
    group = only(job.parent)
    usp, sp = drawn(group, "usp"), drawn(group, "sp")
    assert axis(usp) == axis(sp)
    assert strokes(svg(sp)) == strokes(svg(usp))[-1:]


def test_a_method_without_a_curve_has_no_epochs_figure(add: Add) -> None:
    add("usp")
    job = add("sp", history=[])
    assert list(epochs.charts(only(job.parent))) == ["accuracy_over_epochs-usp"]
