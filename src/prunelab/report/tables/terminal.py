"""Tables of results for a terminal of any width."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prunelab.measure.terminal_table import fits, shown, terminal_table
from prunelab.report.results import InvalidRun
from prunelab.report.tables.columns import KEYS, VALUES
from prunelab.report.tables.formats import WORDS, Entry, cautions, heading, hypervolumes, notes
from prunelab.report.tables.table import Row

Line = Table | Text


def page(tables: Sequence[Entry], unusable: Iterable[InvalidRun], console: Console, width: int) -> Iterator[Line]:
    """All tables with their notes, and the excluded jobs; nothing wider than `width` characters."""
    for group, rows in tables:
        yield shown(heading(group), style="bold")
        for table in fitted(rows, list(VALUES), console, width):
            yield from (table, Text())
        yield from (shown(caution, style="yellow") for caution in cautions(group, rows))
    yield from map(shown, hypervolumes(tables))
    yield from (shown(note, style="dim") for note in notes(tables))
    yield from (shown(f"Excluded: {job.name or job.folder.name}: {job.reason}", style="yellow") for job in unusable)


def fitted(rows: list[Row], names: list[str], console: Console, width: int) -> list[Table]:
    """One table if it fits, else two with half of the columns each, and so on; Rich would cut the numbers."""
    whole = _table(rows, names)
    if fits(whole, console, width) or len(names) == 1:
        return [whole]
    middle = len(names) // 2
    return fitted(rows, names[:middle], console, width) + fitted(rows, names[middle:], console, width)


def _table(rows: list[Row], names: list[str]) -> Table:
    table = terminal_table((*KEYS, *names), WORDS)
    several = len({row.method for row in rows}) < len(rows)  # else every row would be a section
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        cells = [shown(cell(row)) for cell in (*KEYS.values(), *(VALUES[name] for name in names))]
        table.add_row(*cells, end_section=several and following is not None and following.method != row.method)
    return table
