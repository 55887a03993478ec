"""The page works in a browser without a network."""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from browser import browser_page

from prunelab.core.text.si_format import si_format
from prunelab.report.html import page
from prunelab.report.results import load
from prunelab.report.summary import write

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
Add = Callable[..., Path]
EXTRA = "data.root=my 'own' images"
COMMAND = """python -m train prune=usp rate=0.8 seed=1 'data.root=my '"'"'own'"'"' images' name=demo"""
MARKS = ".mark-symbol.role-mark path"  # and not those of a legend
AXE = Path(os.environ.get("AXE", "node_modules/axe-core/axe.min.js"))
CELLS = ".mark-rect.role-mark path"


@pytest.fixture
def study(add: Add) -> Path:
    """The report of ten jobs of one method, one of which has another override."""
    for rate in (0.0, 0.2, 0.4, 0.6, 0.8):
        for seed in (0, 1):
            overrides = ["prune=usp", f"rate={rate:g}", f"seed={seed}", *([EXTRA] if (rate, seed) == (0.8, 1) else [])]
            folder = add("usp", rate, seed, overrides=overrides).parent
    (folder / "prune=sp,rate=0.9").mkdir()
    assert not write(folder).failures
    return folder


@pytest.fixture(params=[1280, 375])
def wide(request: pytest.FixtureRequest, study: Path) -> "Iterator[Page]":
    with browser_page(width=request.param) as opened:
        yield visited(opened, study)


@pytest.fixture
def opened(study: Path) -> "Iterator[Page]":
    with browser_page() as empty:
        yield visited(empty, study)


def visited(empty: "Page", study: Path) -> "Page":
    """The page of the study without a network; tests check that `complaints` of the browser are empty."""
    complaints: list[str] = []
    empty.on("console", lambda message: complaints.append(message.text))
    empty.on("pageerror", lambda error: complaints.append(str(error)))
    empty.on("request", lambda request: None if request.url.startswith("file:") else complaints.append(request.url))
    empty.complaints = complaints  # type: ignore[attr-defined]
    empty.context.set_offline(True)
    empty.goto((study / "report.html").as_uri())
    return empty


def drawn(figure: "Locator") -> "Locator":
    figure.scroll_into_view_if_needed()
    figure.locator(".plot[data-state=drawn]").wait_for()
    return figure


def test_every_figure_is_drawn_offline_and_the_browser_complains_of_nothing(wide: "Page", study: Path) -> None:
    names = {path.stem for path in (study / "figures").glob("*.svg")}
    assert {figure.get_attribute("data-name") for figure in wide.locator("figure").all()} == names
    for figure in wide.locator("figure").all():
        assert drawn(figure).locator("svg").locator(f"{MARKS}, {CELLS}").count() >= 1, figure.get_attribute("data-name")
        box, plot = figure.locator("svg").bounding_box(), figure.bounding_box()
        assert box
        assert plot
        assert box["width"] <= plot["width"]
    assert wide.complaints == []  # type: ignore[attr-defined]


def test_a_figure_is_drawn_when_it_comes_near_the_viewport_or_is_printed(opened: "Page") -> None:
    last = opened.locator("figure").last.locator(".plot")
    drawn(opened.locator("figure").first)
    assert last.get_attribute("data-state") is None
    opened.pdf()
    assert last.get_attribute("data-state") == "drawn"


def test_the_page_never_scrolls_sideways(wide: "Page") -> None:
    for figure in wide.locator("figure").all():
        drawn(figure)
    assert wide.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    wide.locator("#list tbody button").first.click()
    assert wide.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert wide.evaluate("find('#card').scrollWidth - find('#card').clientWidth") <= 0


@pytest.mark.parametrize("width", [1280, 375])
def test_the_commands_of_a_study_stand_below_each_other(add: Add, width: int) -> None:
    for method, rate in (("none", 0.0), ("usp", 0.5), ("usp", 0.8)):
        folder = add(method, rate, overrides=[f"prune={method}", f"rate={rate:g}"]).parent
    assert not write(folder).failures
    with browser_page(width=width) as empty:
        boxes = [code.bounding_box() for code in visited(empty, folder).locator("dl code").all()[:2]]
    (first, second) = (box for box in boxes if box)
    assert first["x"] == second["x"]
    assert first["y"] + first["height"] <= second["y"] < first["y"] + 100
    assert max(box["x"] + box["width"] for box in (first, second)) <= width


def test_hovering_over_a_mark_shows_its_overrides_and_a_click_its_card(opened: "Page") -> None:
    mark = drawn(opened.locator("figure[data-name=pareto_front_over_macs]")).locator(f"{MARKS}[aria-label*=own]").last
    mark.hover()
    opened.locator("#vg-tooltip-element.visible").wait_for()
    assert EXTRA in opened.locator("#vg-tooltip-element").inner_text()
    mark.click()
    assert opened.locator("#card[open] h2").inner_text() == f"rate=0.8,seed=1,{EXTRA}"
    assert opened.locator("#card[open] dd").first.inner_text() == "prune=usp,rate=0.8,seed=1"
    assert opened.locator("#command").inner_text() == COMMAND


def test_a_click_on_a_mark_of_no_job_opens_nothing(opened: "Page") -> None:
    drawn(opened.locator("figure[data-name=mean_accuracy_over_macs]")).locator(MARKS).last.click()
    assert opened.locator("#card[open]").count() == 0


def test_the_card_has_the_numbers_of_the_result(opened: "Page", study: Path) -> None:
    results, _ = load(study)
    result = next(r for r in results if (r.job.rate, r.job.seed) == (0.6, 1))
    opened.get_by_role("button", name="rate=0.6,seed=1").click()
    table = [line.split("\t") for line in opened.locator("#card tbody").inner_text().splitlines()]
    before, after = asdict(result.dense), asdict(result.pruned)
    for i, (name, key) in enumerate({"parameters": "params", "non-zeros": "nonzero"}.items()):
        assert table[i] == [name, si_format(before[key]), si_format(after[key]), f"{after[key] / before[key]:.3g}"]
    assert table[2][1:3] == ["0.000", "0.600"]
    for i, key in enumerate(("macs", "bops"), 3):
        assert table[i][1:] == [si_format(before[key]), si_format(after[key]), "0.4"]
    assert [line[0].split(":")[0] for line in table[5:]] == [
        "bytes in memory", "bytes on disk", "latency, batch 1", "latency, batch 128",
    ]  # fmt: skip
    assert table[6][1:] == ["4.1kB", "1.7kB", "0.415"]
    assert table[7][1:] == ["2 ms (0 µs to 1 s)", "1.4 ms (0 µs to 1 s)", "0.7"]
    facts = opened.locator("#card dl").inner_text().splitlines()
    assert f"{100 * result.accuracy:.2f} %" in facts
    assert any(fact.startswith(f"{(result.accuracy + 0.6) / 2:.3f} = (accuracy") for fact in facts)
    assert [o.inner_text() for o in opened.locator("#overrides li").all()] == list(result.job.overrides)


@pytest.mark.parametrize("clipboard", ["clipboard", "none", "refused"])
def test_the_command_is_copied_with_a_clipboard_and_without(study: Path, clipboard: str) -> None:
    scripts = {
        "none": "Object.defineProperty(navigator, 'clipboard', {value: undefined})",
        "refused": "navigator.clipboard.writeText = () => Promise.reject(new Error('refused'))",
    }
    with browser_page() as opened:
        opened.add_init_script(scripts.get(clipboard, ""))
        visited(opened, study)
        opened.get_by_role("button", name="rate=0.8,seed=1").click()
        opened.locator("#copy").click()
        opened.locator("#copy", has_text="Copied").wait_for()
        opened.keyboard.press("Escape")
        opened.locator("#search").click()
        opened.keyboard.press("Control+V")
        assert opened.locator("#search").input_value() == COMMAND
        assert opened.complaints == []  # type: ignore[attr-defined]


def test_without_any_way_to_copy_the_command_is_selected(study: Path) -> None:
    with browser_page() as opened:
        opened.add_init_script(
            "Object.defineProperty(navigator, 'clipboard', {value: undefined}); document.execCommand = () => false"
        )
        visited(opened, study)
        opened.get_by_role("button", name="rate=0.8,seed=1").click()
        opened.locator("#copy").click()
        opened.locator("#copy", has_text="Selected").wait_for()
        assert opened.evaluate("String(getSelection())") == COMMAND


def test_the_search_keeps_the_jobs_that_hold_every_word(opened: "Page") -> None:
    listed = opened.locator("#list tbody button")
    assert (listed.count(), opened.locator("#count").inner_text()) == (10, "10 of 10 jobs")
    opened.locator("#search").fill("SEED=1 rate=0.8")
    assert listed.all_inner_texts() == [f"rate=0.8,seed=1,{EXTRA}"]
    opened.locator("#search").fill("OWN")
    assert (listed.count(), opened.locator("#count").inner_text()) == (1, "1 of 10 jobs")
    opened.locator("#search").fill("nothing like it")
    assert listed.count() == 0
    opened.locator("#search").fill("")
    assert listed.count() == 10


def test_a_click_on_a_column_head_sorts_and_another_reverses(opened: "Page", study: Path) -> None:
    results, _ = load(study)
    head = opened.locator("#list th", has_text="test accuracy")
    for order, reverse in (("ascending", False), ("descending", True)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        cells = [row.locator("td").nth(3).inner_text() for row in opened.locator("#list tbody tr").all()]
        assert cells == [f"{100 * a:.2f}" for a in sorted((r.accuracy for r in results), reverse=reverse)]
    assert opened.locator("[aria-sort]").count() == 1


def test_a_key_opens_a_card_and_another_closes_it(opened: "Page") -> None:
    opened.locator("#list tbody button").first.focus()
    opened.keyboard.press("Enter")
    assert opened.locator("#card[open]").count() == 1
    opened.keyboard.press("Escape")
    assert opened.locator("#card[open]").count() == 0
    assert opened.evaluate("document.activeElement.innerText") == "rate=0,seed=0"


def test_the_links_of_a_card_lead_to_the_files_of_the_job(opened: "Page", study: Path) -> None:
    opened.get_by_role("button", name="rate=0.8,seed=1").click()
    [link] = opened.locator("#files a").all()
    assert link.inner_text() == "result.json"
    assert link.evaluate("link => link.href") == (study / "prune=usp,rate=0.8,seed=1" / "result.json").as_uri()


def test_the_button_changes_the_theme_of_page_and_figures(opened: "Page") -> None:
    figure, background = opened.locator("figure").first, "getComputedStyle(document.body).backgroundColor"
    for page_colour, ink in (("rgb(255, 255, 255)", "#000"), ("rgb(27, 27, 27)", "#e0e0e0")) * 2:
        label = drawn(figure).locator(".role-axis-label text").first
        assert (opened.evaluate(background), label.get_attribute("fill")) == (page_colour, ink)
        opened.locator("#theme").click()
    assert opened.complaints == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(wide: "Page", scheme: Literal["light", "dark"]) -> None:
    if not AXE.exists():
        pytest.skip(f"needs {AXE}: npm install axe-core, or AXE=path of axe.min.js")
    wide.emulate_media(color_scheme=scheme)
    for figure in wide.locator("figure").all():
        drawn(figure)
    wide.evaluate(AXE.read_text())
    serious = "axe.run().then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => v.id))"
    assert wide.evaluate(serious) == []
    wide.locator("#list tbody button").first.click()
    assert wide.evaluate(serious) == []


def test_a_long_list_is_shown_a_hundred_rows_at_a_time(add: Add) -> None:
    for i in range(150):
        study = add("usp", i / 1000).parent
    results, unusable = load(study)
    (study / "report.html").write_text(page.html("long", [], [], results, unusable), encoding="utf-8")
    with browser_page() as opened:
        visited(opened, study)
        listed = opened.locator("#list tbody tr")
        assert listed.count() == 100
        assert opened.locator("#count").inner_text() == "150 of 150 jobs, the first 100 shown"
        opened.locator("#more").click()
        assert listed.count() == 150
        assert opened.locator("#more").is_hidden()
