"""Writes the tables and figures of a sweep into its folder, from its result files alone."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from rich.console import Console, ConsoleOptions, RenderResult

from prunelab.core.files.atomic import atomic_write, remove_abandoned
from prunelab.report.groups import Group, group
from prunelab.report.html import page
from prunelab.report.html.page import Section
from prunelab.report.results import InvalidRun, load
from prunelab.report.tables import formats, terminal
from prunelab.report.tables.table import rows
from prunelab.store.result import Result


@dataclass(frozen=True)
class Summary:
    """The tables of a sweep, printable with rich, and the files that hold them."""

    tables: tuple[formats.Entry, ...]
    unusable: tuple[InvalidRun, ...]
    paths: tuple[Path, ...]  # files written, in order
    failures: tuple[str, ...]  # figures that could not be drawn, and why

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from terminal.page(self.tables, self.unusable, console, options.max_width)


def write(folder: Path) -> Summary:
    """Writes summary.csv, summary.md, figures/*.png and *.svg, report.html; tables come before any figure.

    Raises NothingToReport if there is no valid result, and OSError if the folder cannot be written to.
    """
    results, unusable = load(folder)
    for place in (folder, folder / "figures"):
        remove_abandoned(place)  # drafts of reports that were killed
    tables = [(members, rows(members)) for members in group(results)]
    written = [
        _file(folder / "summary.csv", formats.comma_separated(tables).encode()),
        _file(folder / "summary.md", formats.markdown(tables, unusable, results).encode()),
    ]
    sections, drawn, failures = _figures(folder / "figures", [members for members, _ in tables], results)
    written += drawn
    try:
        whole = page.html(folder.absolute().name, tables, sections, results, unusable, failures)
        written.append(_file(folder / "report.html", whole.encode()))
    except Exception as error:
        failures.append(_message("report.html", error))
    return Summary(tuple(tables), tuple(unusable), tuple(written), tuple(failures))


def _figures(folder: Path, groups: list[Group], results: list[Result]) -> tuple[list[Section], list[Path], list[str]]:
    """The figures for the page, the files written, and failures, which must not lose the tables."""
    sections, written, failures = [], [], []
    try:
        from prunelab.report.figures import catalogue, style  # only here: importing altair may fail

        folder.mkdir(exist_ok=True)
    except Exception as error:
        return [], [], [_message("figures", error)]
    for title, chapter in catalogue.CHAPTERS.items():
        specs, drawings = {}, {}
        try:
            drawings = chapter(groups, results)
        except Exception as error:
            failures.append(_message(title, error))
        for name, draw in drawings.items():
            try:
                specs[name] = draw()
                pictures = style.pictures(specs[name])
                written += [_file(folder / f"{name}.{form}", pictures[form]) for form in pictures]
            except Exception as error:
                failures.append(_message(name, error))
        notes = catalogue.notes(title, groups)
        if specs or notes:
            sections.append(Section(title, notes, specs))
    if not failures:
        for path in _linked(folder) - set(written):  # figures of the last report that the study no longer has
            path.unlink(missing_ok=True)
    return sections, written, failures


def _linked(folder: Path) -> set[Path]:
    """The pictures that the report beside the folder links to; others are the user's own."""
    try:
        page = (folder.parent / "report.html").read_text(errors="replace")
    except OSError:
        return set()
    names = map(unquote, re.findall(r'href="figures/([^"/]+\.(?:png|svg))"', page))
    return {folder / name for name in names if "/" not in name}


def _message(name: str, error: Exception) -> str:
    return f"{name}: {type(error).__name__}: {' '.join(str(error).split())}"


def _file(path: Path, content: bytes) -> Path:
    with atomic_write(path) as file:
        file.write(content)
    return path
