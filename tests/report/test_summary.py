"""One command writes a complete report, and a failure in one part loses no other."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from prunelab.__main__ import main
from prunelab.core.files.atomic import DAY
from prunelab.report import summary
from prunelab.report.figures import catalogue, means
from prunelab.report.html import page
from prunelab.report.publish import publish_if_any

Add = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.mark.usefixtures("undrawn")
def test_a_page_that_could_not_be_written_is_not_offered(add: Add, monkeypatch: Patch) -> None:
    study = add().parent
    assert publish_if_any(study) == study / "report.html"
    monkeypatch.setattr(page, "html", lambda *_: [][0])
    assert publish_if_any(study) is None
    assert (study / "report.html").exists()


@pytest.mark.parametrize("sweep", [3], indirect=True, ids=["3 seeds"])
def test_report_writes_tables_and_figures_only(sweep: Path, capsys: Capture) -> None:
    before = set(sweep.rglob("*"))
    assert main(["report", str(sweep)]) == 0
    costs = [f"{lead}_over_{cost}" for lead in ("pareto_front", "mean_accuracy") for cost in ("macs", "bytes")]
    kinds = ("accuracy_over_epochs", "sparsity_by_layer", "sparsity_over_time")
    names = [
        *costs,
        "accuracy_over_rate",
        "mean_accuracy_over_latency",
        "mean_accuracy_over_bops",
        "pareto_front_over_parameters",
    ]
    names += [f"{kind}-{method}" for kind in kinds for method in ("sp", "usp")]
    pictures = [sweep / "figures" / f"{name}.{form}" for name in names for form in ("png", "svg")]
    tables = [sweep / name for name in ("summary.csv", "summary.md", "report.html")]
    assert set(sweep.rglob("*")) - before == {*tables, *pictures, sweep / "figures"}
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith("demo: keras_cnn on image_folder, 10 epochs")
    lines = [*map(str, tables), f"{sweep / 'figures'}: {len(names)} figures, as PNG and SVG"]
    assert out.splitlines()[-len(lines) :] == lines
    assert err == ""


@pytest.mark.usefixtures("undrawn")
def test_groups_have_figures_of_their_own(add: Add) -> None:
    add(folder="a=1", comparable="a" * 16)
    done = summary.write(add(folder="a=2", comparable="b" * 16).parent)
    assert len(done.tables) == 2
    drawn = {path.name for path in done.paths}
    assert {f"accuracy_over_rate-id={part * 6}.png" for part in "ab"} <= drawn


@pytest.mark.parametrize("sweep", [1], indirect=True, ids=["1 seed"])
@pytest.mark.usefixtures("undrawn")
def test_a_failing_figure_loses_neither_the_table_nor_the_other_figures(
    sweep: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr(means, "over_rate", fail)
    assert main(["report", str(sweep)]) == 1
    assert capsys.readouterr().err == "prunelab report: not drawn: accuracy_over_rate: RuntimeError: no font\n"
    assert (sweep / "summary.csv").read_text().count("\n") == 11
    drawn = {path.stem for path in (sweep / "figures").iterdir()}
    assert "pareto_front_over_macs" in drawn
    assert "accuracy_over_rate" not in drawn


def test_without_a_drawing_library_the_table_is_still_written(add: Add, monkeypatch: Patch) -> None:
    sweep = add().parent
    monkeypatch.delattr("prunelab.report.figures.catalogue", raising=False)
    monkeypatch.setitem(sys.modules, "prunelab.report.figures.catalogue", None)
    done = summary.write(sweep)
    assert [path.name for path in done.paths] == ["summary.csv", "summary.md", "report.html"]
    assert len(done.failures) == 1


@pytest.mark.usefixtures("undrawn")
def test_a_file_is_replaced_whole_or_not_at_all(add: Add, monkeypatch: Patch) -> None:
    sweep = add().parent
    (sweep / "summary.csv").write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        summary.write(sweep)
    assert (sweep / "summary.csv").read_text() == "old"
    assert len(list(sweep.iterdir())) == 2  # the job and the old table, but no draft


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_nothing_to_report_is_one_line_and_exit_status_2(folder: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["report", str(tmp_path / folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("prunelab report: ")
    assert err.count("\n") == 1


def test_two_reports_are_the_same_files(add: Add) -> None:
    sweep = add().parent
    first = {path: path.read_bytes() for path in summary.write(sweep).paths}
    assert {path: path.read_bytes() for path in summary.write(sweep).paths} == first


@pytest.mark.parametrize("sweep", [1], indirect=True, ids=["1 seed"])
@pytest.mark.usefixtures("undrawn")
def test_a_chapter_that_fails_loses_no_other(sweep: Path, monkeypatch: Patch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("damaged")

    monkeypatch.setitem(catalogue.CHAPTERS, "Sparsity by layer", fail)
    done = summary.write(sweep)
    assert done.failures == ("Sparsity by layer: RuntimeError: damaged",)
    assert (sweep / "figures" / "accuracy_over_rate.png").exists()


@pytest.mark.parametrize("sweep", [1], indirect=True, ids=["1 seed"])
@pytest.mark.usefixtures("undrawn")
def test_figures_of_an_earlier_report_are_removed_and_nothing_else(sweep: Path, monkeypatch: Patch) -> None:
    summary.write(sweep)
    drawn = set((sweep / "figures").iterdir())
    for name in ("mine.png", "mine.txt"):
        (sweep / "figures" / name).write_text("x")
    for title in ("Accuracy over epochs", "Sparsity by layer"):
        monkeypatch.setitem(catalogue.CHAPTERS, title, lambda groups, results: {})
    with (sweep / "report.html").open("a") as edited:
        edited.write('<a href="figures/..">up</a> <a href="figures/mine.txt">mine</a>')
    summary.write(sweep)
    left = set((sweep / "figures").iterdir())
    assert {path.name for path in left - drawn} == {"mine.png", "mine.txt"}
    assert {path.stem.partition("-")[0] for path in drawn - left} >= {"accuracy_over_epochs"}
    assert sweep / "figures" / "accuracy_over_rate.png" in left


@pytest.mark.usefixtures("undrawn")
def test_drafts_of_a_killed_report_are_removed_a_day_later(add: Add) -> None:
    sweep, old = add().parent, time.time() - 2 * DAY
    (sweep / "figures").mkdir()
    left = [sweep / ".prunelab-a.partial", sweep / "figures" / ".prunelab-b.partial"]
    for path in left:
        path.touch()
        os.utime(path, (old, old))
    summary.write(sweep)
    assert not any(path.exists() for path in left)


@pytest.mark.usefixtures("undrawn")
def test_only_the_first_of_very_many_groups_are_drawn_with_a_note(add: Add, monkeypatch: Patch) -> None:
    monkeypatch.setattr(catalogue, "MOST", 2)
    for i in range(catalogue.MOST + 2):
        for seed in (0, 1):
            config = {"epochs": 10, "optim": {"lr": i}}
            job = add("usp", 0.2, seed, folder=f"lr={i},{seed}", comparable=f"{i}", config=config)
    done = summary.write(job.parent)
    assert sum(path.name.startswith("accuracy_over_rate") for path in done.paths) == 2 * catalogue.MOST
    assert (
        f"Only the first {catalogue.MOST} of {catalogue.MOST + 2} groups are drawn."
        in (job.parent / "report.html").read_text()
    )
