"""Files and terminal show the whole table."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from prunelab.report.groups import group
from prunelab.report.results import InvalidRun, load
from prunelab.report.tables import formats, terminal
from prunelab.report.tables.columns import KEYS, VALUES
from prunelab.report.tables.formats import Entry
from prunelab.report.tables.table import rows

Add = Callable[..., Path]


def tables(sweep: Path) -> list[Entry]:
    return [(g, rows(g)) for g in group(load(sweep)[0])]


def printed(sweep: Path, width: int) -> list[str]:
    results, unusable = load(sweep)
    assert results
    console = Console(width=width, file=io.StringIO(), record=True)
    for line in terminal.page(tables(sweep), unusable, console, width):
        console.print(line)
    return console.export_text().splitlines()


def test_csv_gives_back_the_numbers_of_the_table(sweep: Path) -> None:
    [(_, table)] = tables(sweep)
    lines = list(csv.DictReader(io.StringIO(formats.comma_separated(tables(sweep)))))
    assert [(line["method"], float(line["rate"])) for line in lines] == [(r.method, r.rate) for r in table]
    for line, row in zip(lines, table, strict=True):
        assert float(line["test_accuracy_percent"]) == pytest.approx(row.accuracy)
        assert line["test_accuracy_std"] == "" if row.std is None else float(line["test_accuracy_std"])
        assert float(line["change_points"]) == pytest.approx(row.change)
        assert (int(line["n"]), line["seeds"].split()) == (len(row.seeds), [str(s) for s in row.seeds])
        assert float(line["macs"]) / float(line["dense_macs"]) == pytest.approx(1 - row.rate)
        assert (line["model"], line["data"], line["epochs"]) == ("keras_cnn", "image_folder", "10")


def test_csv_leaves_unknown_fields_empty_and_floats_clean(add: Add) -> None:
    add("usp", 0.0, 0)
    [_, line] = csv.DictReader(io.StringIO(formats.comma_separated(tables(add("usp", 0.3, 1, accuracy=0.57).parent))))
    assert (line["change_points"], line["test_accuracy_std"]) == ("", "")
    assert (line["test_accuracy_percent"], line["sparsity_attained"], line["macs"]) == ("57", "0.3", "28000")


def test_markdown_is_a_table_github_accepts(add: Add) -> None:
    job = add("usp", 0.2, overrides=["prune.layers=a|b"], accuracy=0.789)
    text = formats.markdown(tables(job.parent), [InvalidRun(Path("prune=sp"), "unfinished")])
    head, rule, row = [line for line in text.splitlines() if line.startswith("|")]
    assert head.count("|") == rule.count("|") == row.replace("\\|", "").count("|") == len(KEYS | VALUES) + 1
    assert (
        "| 0.2 | 1 | 0.200 | 78.90 |  | 800 (80.0%) | 32k (80.0%) | 32.8M | 3.3k (80.5%) | 90% | 0.495 | 31.2 |" in row
    )
    assert text.startswith("### demo: keras_cnn on image_folder, 10 epochs, 1 seed\n\n|")
    assert "effective (no work for a weight that is 0)" in text
    assert "- `prune=sp`: unfinished" in text


@pytest.mark.parametrize("width", [40, 80, 100, 120])
def test_no_terminal_cuts_a_number(sweep: Path, width: int) -> None:
    lines = printed(sweep, width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in text
    [(_, table)] = tables(sweep)
    for row in table:
        assert all(cell(row) in text for cell in VALUES.values())


def test_a_wide_terminal_shows_the_whole_table_and_a_narrow_one_parts_of_it(add: Add) -> None:
    cost = {"params": 1_234_567, "nonzero": 1_234_567, "macs": 123_456_789, "bops": 126_419_751_936}
    for seed in range(3):
        job = add("synflow", 0.0, seed, cost={"dense": cost, "pruned": cost}, seconds=12_345.6)
    for width, parts in ((130, 1), (100, 2), (60, 4)):
        assert sum("synflow" in line for line in printed(job.parent, width)) == parts
    [row] = [line for line in printed(job.parent, 130) if "synflow" in line]
    assert row.split()[-4:] == ["(100.0%)", "126G", "0.400", "12346"]


def test_brackets_in_a_name_are_no_markup(add: Add) -> None:
    job = add("usp", overrides=["prune.layers=[bold]"])
    assert any("usp (layers=[bold])" in line for line in printed(job.parent, 120))


def test_no_change_has_no_sign(add: Add) -> None:
    add("usp", 0.0, accuracy=0.7)
    [_, row] = tables(add("usp", 0.5, accuracy=0.6999999).parent)[0][1]
    assert VALUES["change (points)"](row) == "0.00"


def test_notes_explain_the_numbers_and_warn_of_uneven_rows(add: Add) -> None:
    add("usp", 0.0, 0)
    add("usp", 0.5, 0)
    job = add("usp", 0.5, 1, device="cuda", data={"fingerprint": "other"})
    text = " ".join(printed(job.parent, 200))
    for words in (
        "effective (no work for a weight that is 0)",
        "± sample standard deviation",
        "cpu, cuda",
        "fewer than n",
        "fingerprints",
    ):
        assert words in text


LEFT_OUT = "any products with lstm.weight_ih_l0"


def test_costs_that_do_not_compare_and_those_left_out_are_told(add: Add) -> None:
    cost = json.loads((add("usp", 0.5, 0) / "result.json").read_text())["cost"]
    job = add("usp", 0.5, 1, cost=cost | {"dense": cost["dense"] | {"macs": 5, "left_out": [LEFT_OUT]}})
    text = " ".join(printed(job.parent, 300))
    assert "The unpruned networks of this table differ" in text
    assert f"MACs and BOPs are without {LEFT_OUT}." in text


def test_an_excluded_job_is_printed(add: Add) -> None:
    job = add()
    (job.parent / "prune=sp,rate=0.9").mkdir()
    assert "Excluded: prune=sp rate=0.9: not begun: the same command starts it" in printed(job.parent, 100)


HOSTILE = "<img src=x onerror=alert(1)>[a](javascript:b)`c`\x1b]0;owned\x07\u202e|\\|"


def test_text_of_others_is_no_html_link_or_column_in_markdown(add: Add) -> None:
    add("none", 0.0, name=HOSTILE, labels={"model": HOSTILE, "data": "d", "optim": "o"})
    overrides = ["prune=usp", f"prune.x={HOSTILE}", f"optim.x={HOSTILE}"]
    job = add("usp", name=HOSTILE, overrides=overrides, device=HOSTILE)
    results, _ = load(job.parent)
    text = formats.markdown(tables(job.parent), [InvalidRun(Path(HOSTILE), HOSTILE)], results)
    outside = re.sub(r"`[^`|\n]*`", "", re.sub(r"\\.", "", text))  # without escaped characters, and then code
    assert not {"<", "[", "]", "`", "\x1b", "\u202e"} & set(outside)
    assert "&lt;img src=x" in text
    assert all(line.count("|") in (len(KEYS | VALUES) + 1, 7) for line in outside.splitlines() if line.startswith("|"))


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t=", "\r="])
def test_text_of_others_is_no_formula_in_csv(begin: str, add: Add) -> None:
    hostile = begin + "cmd|'/c calc'!A1"
    job = add(hostile, 0.2, folder="a=1", labels={"model": hostile, "data": hostile, "optim": "o"})
    for accuracy, rate in ((0.5, 0.0), (0.4, 0.3)):
        add("usp", rate, accuracy=accuracy)
    lines = list(csv.DictReader(io.StringIO(formats.comma_separated(tables(job.parent)))))
    cells = [value for line in lines for value in line.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t", "\r"))]
    assert [cell for cell in cells if cell.startswith("-")] == ["-10"]  # a number stays one


def test_epochs_beyond_one_training_are_said_where_changes_are_from_fewer(add: Add) -> None:
    add("none", 0.0)
    study = add("usp", 0.5).parent
    assert "in all" not in formats.markdown(tables(study), [])
    add("neuron", 0.5, trained=20)
    text = formats.markdown(tables(study), [])
    assert "### demo: keras_cnn on image_folder, 10 epochs a training, 1 seed\n" in text
    assert "Jobs trained for 10 to 20 epochs in all; what more training gives is in their changes, too." in text
    lines = csv.DictReader(io.StringIO(formats.comma_separated(tables(study))))
    assert {(line["method"], line["epochs"], line["epochs_trained"]) for line in lines} == {
        ("none", "10", "10"), ("usp", "10", "10"), ("neuron", "10", "20"),
    }  # fmt: skip
