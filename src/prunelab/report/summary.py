"""What came out of a sweep? Writes its table and figures into its folder, from the result files alone."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult

from prunelab.core.files import written_whole
from prunelab.report import formats, terminal
from prunelab.report.groups import Group, group
from prunelab.report.record import Result
from prunelab.report.results import Unusable, load
from prunelab.report.table import rows


@dataclass(frozen=True)
class Summary:
    """The tables of a sweep, printable with rich, and the files that say the same."""

    tables: tuple[formats.Entry, ...]
    unusable: tuple[Unusable, ...]
    paths: tuple[Path, ...]  # files written, in order
    failures: tuple[str, ...]  # figures that could not be drawn, and why

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from terminal.page(self.tables, self.unusable, console, options.max_width)


def write(folder: Path) -> Summary:
    """Writes summary.csv, summary.md and figures/*.png and *.svg; the table is safe before a figure is tried.

    Raises NothingToReport if there is no usable result, and OSError if the folder cannot be written to.
    """
    results, unusable = load(folder)
    tables = [(of, rows(of)) for of in group(results)]
    written = [
        _file(folder / "summary.csv", formats.comma_separated(tables).encode()),
        _file(folder / "summary.md", formats.markdown(tables, unusable, results).encode()),
    ]
    drawn, failures = _figures(folder / "figures", [of for of, _ in tables], results)
    return Summary(tuple(tables), tuple(unusable), (*written, *drawn), tuple(failures))


def _figures(folder: Path, groups: list[Group], results: list[Result]) -> tuple[list[Path], list[str]]:
    """Files written, and complaints: whatever goes wrong in a drawing library must not lose the table."""
    written, failures = [], []
    try:
        from prunelab.report import figures, scan, tradeoff  # only here: altair may be what fails

        folder.mkdir(exist_ok=True)
        charts = {name: chart for of in groups for name, chart in figures.charts(of).items()}
        charts |= tradeoff.charts(results) | scan.charts(results)
    except Exception as error:
        return [], [_complaint("figures", error)]
    for name, chart in charts.items():
        try:
            pictures = {form: figures.render(chart(), form) for form in figures.FORMATS}
            written += [_file(folder / f"{name}.{form}", pictures[form]) for form in pictures]
        except Exception as error:
            failures.append(_complaint(name, error))
    return written, failures


def _complaint(name: str, error: Exception) -> str:
    return f"{name}: {type(error).__name__}: {' '.join(str(error).split())}"


def _file(path: Path, content: bytes) -> Path:
    with written_whole(path) as file:
        file.write(content)
    return path
