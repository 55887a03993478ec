"""Pictures are sharp, not blank, and the same for the same results; specs are valid Vega-Lite."""

import struct
from pathlib import Path

import altair as alt
import pytest
from charting import only

from prunelab.report.figures import means
from prunelab.report.figures.catalogue import CHAPTERS
from prunelab.report.figures.style import pictures
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
