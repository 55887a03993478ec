"""A study logs its figures and charts to TensorBoard once, and only if its jobs log there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import events
import pytest
from charting import sketch
from tensorboard.plugins.custom_scalar import metadata
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from prunelab.__main__ import main
from prunelab.report.figures import style
from prunelab.tensorboard.study import PICTURES

CODE = "import sys, prunelab.report.publish, prunelab.tensorboard.study; print('torch' in sys.modules)"


@pytest.fixture
def study(trained, tmp_path: Path) -> Path:
    for rate in ("0", "0.5"):
        job = trained("prune=usp", f"rate={rate}", "logger=tensorboard")
        shutil.copytree(job, tmp_path / "study" / f"rate={rate}")
    return tmp_path / "study"


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "pictures", sketch)


def test_repeated_reports_leave_each_figure_once_and_unchanged(study: Path) -> None:
    for _ in range(2):
        assert main(["report", str(study)]) == 0
    assert len([path for path in study.glob("*tfevents*") if path.stat().st_size]) == 1
    shown = events.tensors(study, "images")
    drawn = sorted((study / "figures").glob("*.png"))
    assert sorted(shown) == [f"{PICTURES}/{path.stem}" for path in drawn] != []
    for path in drawn:
        [(width, height, png)] = shown[f"{PICTURES}/{path.stem}"]
        assert png == path.read_bytes()
        assert (int(width), int(height)) == events.size(path)


def test_figures_come_after_the_curves(study: Path) -> None:
    """Of Time Series, which sorts groups of tags by name."""
    curves = {tag.partition("/")[0] for tag in events.tensors(study / "rate=0.5", "scalars")}
    assert {"test", "val"} <= curves
    assert max(curves) < PICTURES


def test_every_chart_of_the_layout_matches_a_tag_of_the_jobs(study: Path) -> None:
    main(["report", str(study)])
    [content] = events.tensors(study, metadata.PLUGIN_NAME)[metadata.CONFIG_SUMMARY_TAG]
    charts = [chart for category in Layout.FromString(content.item()).category for chart in category.chart]
    logged = events.steps(study / "rate=0.5")
    assert len({chart.title for chart in charts}) == len(charts) >= 5
    for chart in charts:
        [pattern] = chart.multiline.tag
        assert len([tag for tag in logged if re.match(pattern, tag)]) == 1, chart.title


def test_a_study_without_tensorboard_gets_no_event_file(trained, tmp_path: Path) -> None:
    shutil.copytree(trained("prune=usp", "rate=0.5"), tmp_path / "study" / "one")
    assert main(["report", str(tmp_path / "study")]) == 0
    assert list(tmp_path.rglob("*tfevents*")) == []


def test_if_the_event_file_cannot_be_written_the_table_stays(study: Path, monkeypatch, capsys) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("prunelab.tensorboard.events.replace", full)
    assert main(["report", str(study)]) != 0
    assert "No space left" in capsys.readouterr().err
    assert (study / "summary.csv").exists()


def test_a_report_does_not_import_torch() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
