"""The summary of a sweep: how many jobs are in which state, and why some have no result."""

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from prunelab.measure.terminal_table import shown
from prunelab.store.folder import State


class SweepSummary:
    """Printable with rich; `jobs` are (name, state, reason), without what they `share`."""

    def __init__(self, jobs: Iterable[tuple[str, State, str]], share: Sequence[str] = ()) -> None:
        self.jobs, self.share = list(jobs), share
        self.counts = Counter(state for _, state, _ in self.jobs)

    @property
    def complete(self) -> bool:
        """Whether every job is finished."""
        return self.counts["finished"] == len(self.jobs)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table.grid("", "", "", padding=(0, 2, 0, 0))
        for column in table.columns:
            column.overflow = "fold"  # long names and reasons wrap
        for name, state, reason in self.jobs:
            if state != "finished":
                table.add_row(shown(state), shown(name), shown(reason))
        if table.row_count and self.share:
            yield shown(f"all with {' '.join(self.share)}")
        if table.row_count:
            yield table
        yield shown(f"{len(self.jobs)} jobs: " + ", ".join(f"{n} {state}" for state, n in self.counts.items()))
