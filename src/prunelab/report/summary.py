"""What came out of a sweep? Writes its table and figures into its folder, from the result files alone."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult

from prunelab.core.atomic import atomic_write, remove_abandoned
from prunelab.report.groups import Group, group
from prunelab.report.html import page
from prunelab.report.html.page import Section
from prunelab.report.results import InvalidRun, load
from prunelab.report.tables import formats, terminal
from prunelab.report.tables.table import rows
from prunelab.store.result import Result


@dataclass(frozen=True)
class Summary:
    """The tables of a sweep, printable with rich, and the files that say the same."""

    tables: tuple[formats.Entry, ...]
    unusable: tuple[InvalidRun, ...]
    paths: tuple[Path, ...]  # files written, in order
    failures: tuple[str, ...]  # figures that could not be drawn, and why

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from terminal.page(self.tables, self.unusable, console, options.max_width)


def write(folder: Path) -> Summary:
    """Writes summary.csv, summary.md, figures/*.png and *.svg, report.html; tables are safe before a figure is tried.

    Raises NothingToReport if there is no usable result, and OSError if the folder cannot be written to.
    """
    results, unusable = load(folder)
    for written_to in (folder, folder / "figures"):
        remove_abandoned(written_to)  # by reports that were killed
    tables = [(of, rows(of)) for of in group(results)]
    written = [
        _file(folder / "summary.csv", formats.comma_separated(tables).encode()),
        _file(folder / "summary.md", formats.markdown(tables, unusable, results).encode()),
    ]
    sections, drawn, failures = _figures(folder / "figures", [of for of, _ in tables], results)
    written += drawn
    try:
        whole = page.html(folder.absolute().name, tables, sections, results, unusable, failures)
        written.append(_file(folder / "report.html", whole.encode()))
    except Exception as error:
        failures.append(_complaint("report.html", error))
    return Summary(tuple(tables), tuple(unusable), tuple(written), tuple(failures))


def _figures(folder: Path, groups: list[Group], results: list[Result]) -> tuple[list[Section], list[Path], list[str]]:
    """The figures for the page, files written, and complaints: what goes wrong in drawing must not lose the table."""
    sections, written, failures = [], [], []
    try:
        from prunelab.report.figures import catalogue as figures
        from prunelab.report.figures import style as look  # only here: altair may be what fails

        folder.mkdir(exist_ok=True)
    except Exception as error:
        return [], [], [_complaint("figures", error)]
    for title, chapter in figures.CHAPTERS.items():
        specs, drawings = {}, {}
        try:
            drawings = chapter(groups, results)
        except Exception as error:
            failures.append(_complaint(title, error))
        for name, draw in drawings.items():
            try:
                specs[name] = draw()
                pictures = look.pictures(specs[name])
                written += [_file(folder / f"{name}.{form}", pictures[form]) for form in pictures]
            except Exception as error:
                failures.append(_complaint(name, error))
        notes = figures.notes(title, groups)
        if specs or notes:
            sections.append(Section(title, notes, specs))
    if not failures:  # what an earlier report drew, and is no figure of the study any more
        for path in {*folder.glob("*.png"), *folder.glob("*.svg")} - set(written):
            path.unlink()
    return sections, written, failures


def _complaint(name: str, error: Exception) -> str:
    return f"{name}: {type(error).__name__}: {' '.join(str(error).split())}"


def _file(path: Path, content: bytes) -> Path:
    with atomic_write(path) as file:
        file.write(content)
    return path
