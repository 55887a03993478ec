"""The page shows the study, escapes whatever its files hold, and loads nothing."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from prunelab.report.groups import group
from prunelab.report.html import page
from prunelab.report.html.jobs import compact
from prunelab.report.html.page import Section
from prunelab.report.results import InvalidRun, load
from prunelab.report.tables import formats
from prunelab.report.tables.columns import KEYS, VALUES
from prunelab.report.tables.table import rows
from prunelab.store.result import Cost, Quartiles, Result

Add = Callable[..., Path]
HOSTILE = "prune.layers=</script><!--<script>alert('1')</script><b>&amp;"


class Reader(HTMLParser):
    """The page as a browser parses it: elements, cells of tables, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts = "", [""]
        self.tables: list[list[list[str]]] = []
        self.inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)
        if tag == "script":
            self.scripts.append("")
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self.inside.pop() != tag:
            pass  # elements without an end tag

    def handle_data(self, data: str) -> None:
        if self.inside and self.inside[-1] == "script":
            self.scripts[-1] += data
        else:
            self.text += data
        if {"td", "th"} & set(self.inside):
            self.tables[-1][-1][-1] += data


def written(study: Path, sections: tuple[Section, ...] = (), failures: tuple[str, ...] = ()) -> str:
    results, unusable = load(study)
    tables = [(members, rows(members)) for members in group(results)]
    return page.html(study.name, tables, sections, results, unusable, failures)


def data(text: str) -> dict[str, Any]:
    [content] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    return json.loads(content, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def jobs(text: str) -> list[dict[str, Any]]:
    content = data(text)
    return [dict(zip(content["fields"], row, strict=True)) for row in content["jobs"]]


def commands(text: str) -> list[str]:
    """As page.js composes them."""
    content = data(text)
    texts = [content["quoted"].get(str(i), text) for i, text in enumerate(content["texts"])]
    overrides = [job["arguments"] + ([] if job["study"] is None else [job["study"]]) for job in jobs(text)]
    return [" ".join(["python -m train", *(texts[i] for i in numbers)]) for numbers in overrides]


def test_the_tables_have_the_same_numbers_as_the_other_files(sweep: Path) -> None:
    results, _ = load(sweep)
    [members] = group(results)
    found = Reader(written(sweep))
    columns = KEYS | VALUES
    assert found.tables[0] == [[*columns], *([cell(row) for cell in columns.values()] for row in rows(members))]
    head, cells = formats.front_table(results) or pytest.fail("no front")
    assert found.tables[1] == [head, *cells]
    assert formats.heading(members) in found.text
    assert f"{len(results)} jobs finished, 0 excluded." in found.text
    assert all(note in found.text for note in formats.notes([(members, rows(members))]))


def test_each_table_is_in_a_scrolling_box_and_numbers_are_aligned_right(sweep: Path) -> None:
    found = Reader(written(sweep))
    tags = [tag for tag, _ in found.elements]
    assert all(tags[i - 1] == "div" for i, tag in enumerate(tags) if tag == "table")
    heads = [attrs.get("class") for tag, attrs in found.elements if tag == "th"]
    assert heads[: len(KEYS | VALUES)] == [None, *["number"] * (len(KEYS | VALUES) - 1)]


def test_the_page_says_in_what_groups_differ(add: Add) -> None:
    for epochs in (5, 10):
        add(folder=f"epochs={epochs}", comparable=str(epochs) * 9, config={"epochs": epochs})
    study = add(folder="epochs=5,again", seed=1, comparable="5" * 9, config={"epochs": 5}).parent
    text = Reader(written(study)).text
    assert "These jobs are not averaged together: they differ in epochs=5 | 10." in text
    assert "5 epochs, 2 seeds: 2 jobs" in text


def test_a_single_group_is_not_compared_with_others(sweep: Path) -> None:
    assert "not averaged" not in written(sweep)


def test_content_of_files_is_text_and_never_a_tag_or_the_end_of_a_script(add: Add) -> None:
    plain = [tag for tag, _ in Reader(written(add("usp", 0.5).parent)).elements]
    study = add("<b>sp</b>", 0.2, folder="prune=<i>,rate=0.2", overrides=[HOSTILE], name="<u>", device="<u>").parent
    found = Reader(written(study, failures=("<img src=x>: RuntimeError: <script>",)))
    assert not {"b", "i", "u", "img"} & {tag for tag, _ in found.elements}
    assert len(found.scripts) == 1 + plain.count("script")
    assert f"<b>sp</b> ({HOSTILE.removeprefix('prune.')})" in found.tables[0][1]
    assert HOSTILE in data(written(study))["texts"]
    assert "<img src=x>: RuntimeError: <script>" in found.text


def test_a_hostile_figure_stays_data(add: Add) -> None:
    values = [{"job": "</script><b>"}]
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.4.1.json",
        "data": {"values": values},
        "mark": "point",
    }
    spec["title"] = {"text": "<b>Title</b>", "subtitle": ["<i>", "two"]}
    found = Reader(written(add().parent, (Section("<u>Section</u>", ("<em>",), {'a"><b>': spec}),)))
    assert not {"b", "i", "u", "em"} & {tag for tag, _ in found.elements}
    assert json.loads(found.scripts[1])["data"]["values"] == values
    assert all(words in found.text for words in ("<b>Title</b>", "<i>; two", "<u>Section</u>", "<em>"))


def test_nothing_is_loaded_from_anywhere(sweep: Path) -> None:
    text = written(sweep, (Section("Accuracy", (), {"a": spec_of(load(sweep)[0])}),))
    found = Reader(text)
    for tag, attrs in found.elements:
        assert tag not in ("img", "iframe", "object", "embed", "base")
        assert "src" not in attrs
        if attrs.get("href"):
            assert re.match(r"#|data:,|figures/", str(attrs["href"])), (tag, attrs)
    [policy] = [a["content"] for tag, a in found.elements if tag == "meta" and a.get("http-equiv")]
    assert str(policy).startswith("default-src 'none'")  # a browser refuses what the lines above may have missed
    assert not re.search(r"url\(|@import", text[text.index("<style>") : text.index("</style>")])


def spec_of(results: list[Result], **changes: Any) -> dict[str, Any]:
    """A figure with a point for each job."""
    values = [{"job": r.folder.name, "rate": r.job.rate, "accuracy": r.accuracy} for r in results]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.4.1.json",
        "title": {"text": "Accuracy", "subtitle": "of all jobs"},
        "data": {"values": values},
        "mark": "point",
        "encoding": {"x": {"field": "rate", "type": "quantitative"}},
        "width": 500,
        "height": 300,
    } | changes


def test_a_figure_fills_its_container_with_its_title_and_its_files_beside_it(sweep: Path) -> None:
    views = {"several": spec_of([], hconcat=[]), "steps": spec_of([], width={"step": 20}), "one": spec_of([])}
    found = Reader(written(sweep, (Section("Figures", (), views),)))
    widths = [json.loads(script).get("width") for script in found.scripts[1:4]]
    assert widths == [500, {"step": 20}, "container"]
    assert all("title" not in json.loads(script) for script in found.scripts[1:4])
    plots = [attrs for _, attrs in found.elements if attrs.get("class") == "plot"]
    assert [p["aria-label"] for p in plots] == ["Accuracy. of all jobs"] * 3
    assert [p["style"] for p in plots] == ["min-height:300px"] * 3  # else all would be in view and drawn at once
    assert [a["href"] for tag, a in found.elements if tag == "a" and str(a["href"]).startswith("figures")] == [
        f"figures/{name}.{form}" for name in views for form in ("png", "svg")
    ]


def test_a_page_without_figures_contains_no_vega(sweep: Path) -> None:
    assert len(written(sweep)) < 60_000 < 800_000 < len(written(sweep, (Section("A", (), {"a": spec_of([])}),)))


def test_a_figure_of_an_unsupported_vega_lite_version_is_named_with_a_remedy(sweep: Path) -> None:
    spec = spec_of([]) | {"$schema": "https://vega.github.io/schema/vega-lite/v99.1.0.json"}
    with pytest.raises(ValueError, match=r"v99\.1\.0\.json: .* draws Vega-Lite .*6.*; install"):
        written(sweep, (Section("A", (), {"a": spec}),))
    assert "6.4" in vl_convert.get_vegalite_versions()  # what altair writes here


def test_every_excluded_job_is_listed_with_its_reason(add: Add) -> None:
    study = add().parent
    (study / "prune=sp,rate=0.9").mkdir()
    add("sp", 0.4, schema=99)
    (add("sp", 0.6) / "result.json").write_text("{")
    found = Reader(written(study))
    _, unusable = load(study)
    assert len(unusable) == 3
    for job in unusable:
        assert f"{job.name}: {job.reason}" in found.text
    assert "1 job finished, 3 excluded." in found.text


def test_figures_that_failed_are_listed(sweep: Path) -> None:
    text = Reader(written(sweep, failures=("accuracy_over_rate: RuntimeError: no font",))).text
    assert "accuracy_over_rate: RuntimeError: no font" in text
    assert "Every job of the study is in the tables." in text


def test_the_command_of_a_job_finds_its_yaml_files(add: Add) -> None:
    study = add(overrides=["prune=mine", "name=a"], config_dir="my conf").parent
    [command] = commands(written(study))
    assert shlex.split(command) == ["python", "-m", "train", "--config-dir=my conf", "prune=mine", "name=a"]


def test_a_shell_parses_the_command_of_each_job_into_its_overrides(add: Add) -> None:
    overrides = ["prune=usp", "prune.layers=[conv1, 'a b']", "data.root=~/my images", "$HOME`id`", "rate=0.2", HOSTILE]
    study = add(overrides=overrides).parent
    add(rate=0.4, overrides=["prune=usp", "name=other"])
    add(rate=0.6, overrides=["+name=other"])
    first, second, third = commands(written(study))
    assert shlex.split(first) == ["python", "-m", "train", *overrides, "name=demo"]  # not among its overrides
    assert second == "python -m train prune=usp name=other"
    assert third == "python -m train +name=other"


def test_values_that_jobs_share_are_written_once(add: Add) -> None:
    for seed in range(40):
        job = add("usp", 0.5, seed)
    found = data(written(job.parent))
    assert len(found["jobs"]) == 40
    assert len(found["costs"]) == 2  # of the dense and of the pruned network
    assert len(set(found["texts"])) == len(found["texts"]) < 40 + 10
    assert max(len(json.dumps(row, separators=(",", ":"))) for row in found["jobs"]) < 120


def test_a_job_has_the_numbers_of_its_result(add: Add) -> None:
    study = add("usp", 0.4, 3, accuracy=0.1234567, seconds=float("nan")).parent
    found, [job] = data(written(study)), jobs(written(study))
    assert (job["job"], job["rate"], job["seed"]) == ("prune=usp,rate=0.4,seed=3", 0.4, 3)
    assert (job["accuracy"], job["seconds"], job["peak"]) == (0.123457, None, 10**9)
    measured = [dict(zip(found["measures"], row, strict=True)) for row in found["costs"]]
    assert measured[job["dense"]]["nonzero"] == 1000
    assert measured[job["pruned"]] == {
        "params": 1000, "nonzero": 600, "macs": 24_000, "bops": 24_576_000,
        "memory": 4000, "file": 2500, "latency1": [0.0016, 0, 1], "latency128": [0.2048, 0, 1],
    }  # fmt: skip


def test_costs_are_written_with_six_digits(add: Add) -> None:
    [result], _ = load(add().parent)
    times = {1: Quartiles(0.00123456789, 0.001, 0.002), 128: Quartiles(0.5, 0.4, 0.6)}
    cost = Cost(10, 5, 40, 50, memory_bytes=4000, file_bytes=2001, latency=times)
    found = compact([replace(result, pruned=cost)])
    assert found["costs"][-1] == (10, 5, 40, 50, 4000, 2001, (0.00123457, 0.001, 0.002), (0.5, 0.4, 0.6))


def test_an_unusable_job_may_have_any_name(add: Add) -> None:
    results, _ = load(add().parent)
    text = page.html("x", [], [], results, [InvalidRun(Path("<b>&"), "failed: <i>")])
    assert "<code>&lt;b&gt;&amp;</code>: failed: &lt;i&gt;" in text


def test_a_job_lists_its_files_and_its_name_is_what_differs(add: Add) -> None:
    job = add("usp", 0.4)
    for name in ("model.safetensors", ".lock", "events.out.tfevents.1", "two\nlines"):
        (job / name).touch()
    (job / "masks").mkdir()
    study = add("usp", 0.6).parent
    texts, [first, second] = data(written(study))["texts"], jobs(written(study))
    assert texts[first["files"]].split("\n") == ["masks/", "model.safetensors", "result.json"]
    assert (first["label"], second["label"]) == ("rate=0.4", "rate=0.6")
    assert data(written(study))["shared"] == "prune=usp seed=0 model=keras_cnn"


def test_names_that_would_not_be_distinct_are_those_of_folders(add: Add) -> None:
    add("usp", 0.4, overrides=["prune=usp"])
    study = add("usp", 0.6, overrides=["prune=usp", "rate=0.6"]).parent
    assert [job["label"] for job in jobs(written(study))] == [job["job"] for job in jobs(written(study))]


def test_hypervolumes_are_a_result_beside_the_front(sweep: Path) -> None:
    found = Reader(written(sweep))
    [sentence] = formats.hypervolumes([(m, rows(m)) for m in group(load(sweep)[0])])
    assert sentence in found.text
    assert not [attrs for tag, attrs in found.elements if attrs.get("class") == "caution"]
