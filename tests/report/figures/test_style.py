"""Pictures are sharp, not blank, and the same for the same results; specs are valid Vega-Lite."""

import struct
from collections.abc import Callable
from pathlib import Path

import altair as alt
import pytest
from charting import only

from prunelab.report.figures import means
from prunelab.report.figures.catalogue import CHAPTERS
from prunelab.report.figures.style import pictures
from prunelab.report.groups import group
from prunelab.report.results import load


def test_png_is_sharp_and_not_blank(sweep: Path) -> None:
    picture = pictures(means.over_rate(only(sweep)))["png"]
    width, height = struct.unpack(">II", picture[16:24])
    assert picture.startswith(b"\x89PNG")
    assert 1100 < width < 1400
    assert 700 < height < 1000
    assert len(picture) > 20_000


@pytest.mark.parametrize("sweep", [pytest.param(1, marks=pytest.mark.slow), 3], indirect=True)
def test_every_figure_is_valid_and_the_same_each_time(sweep: Path) -> None:
    results, _ = load(sweep)
    drawings = [draw for chapter in CHAPTERS.values() for draw in chapter([only(sweep)], results).values()]
    assert len(drawings) > 10
    for draw in drawings:
        alt.Chart.from_dict(spec := draw(), validate=True)
        assert draw() == spec


def test_a_figure_is_the_same_file_whatever_was_drawn_before() -> None:
    """Vega counts the paths it clips at over all figures of a process."""
    axes = {axis: {"field": axis, "type": "quantitative"} for axis in ("x", "y")}
    spec = {"data": {"values": [{"x": 1, "y": 2}]}, "mark": {"type": "point", "clip": True}, "encoding": axes}
    first, second = pictures(spec), pictures(spec)
    assert b'id="' in first["svg"]
    assert first == second


def test_no_name_is_cut_however_long(add: Callable[..., Path]) -> None:
    """What tells two variants of a method apart often stands at the end of their names."""
    settings = ("prune/criterion=magnitude", "optim.finetune=0.01", "retrain=weight_rewind")
    for rate in (0.2, 0.4):
        for rewind in ("500it", "2ep"):
            overrides = [f"prune=usp rate={rate}", *settings, f"rewind={rewind}"]
            job = add("usp", rate, folder=f"rate={rate},rewind={rewind}", overrides=overrides)
    [members] = group(results := load(job.parent)[0])
    names = {r.method for r in results}
    assert len(names) == 2
    drawings = {name: draw for chapter in CHAPTERS.values() for name, draw in chapter([members], results).items()}
    for draw in drawings.values():
        text = pictures(draw())["svg"].decode()
        assert "…" not in text
    assert all(name in pictures(drawings["accuracy_over_rate"]())["svg"].decode() for name in names)
