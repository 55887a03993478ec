"""The progress of a sweep: a live line, or a line for each job that ends where there is no terminal."""

import logging
import time
from collections import Counter
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from prunelab.core.text.printable import printable
from prunelab.measure.terminal_table import shown
from prunelab.store.failure import one_line
from prunelab.store.signals import Interrupted
from prunelab.sweep.pool.pool import OUTPUT, Pool, Task

REFRESH = 0.5  # seconds
log = logging.getLogger(__name__)


class SweepProgress:
    """Watches a Pool of `total` tasks."""

    def __init__(self, total: int) -> None:
        self.total, self.began = total, time.monotonic()
        self.begun: set[Task] = set()
        self.ended = Counter[str]()  # jobs by state
        console = Console(stderr=True)
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self.shown = 0.0

    def __enter__(self) -> "SweepProgress":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.live:
            self.live.stop()

    def __call__(self, pool: Pool) -> None:
        for task in [running.task for running in pool.running if running.task not in self.begun]:
            self.begun.add(task)
            if not self.live:
                log.info("begins    %s  %s", task.name, task.folder.path / OUTPUT)
        for task in pool.done[self.ended.total() :]:
            problem = task.problem() if task.status else None
            state = "interrupted" if isinstance(problem, Interrupted) else "failed" if problem else "finished"
            self.ended[state] += 1
            reason = f": {one_line(problem)}" if problem else ""
            line = f"{state:8}  {task.name}  {task.seconds:.0f} s{reason}   [{self.summary(pool)}]"
            if self.live:
                self.live.console.print(shown(line), highlight=False)  # above the live line
            else:
                log.info(line)
        if self.live and time.monotonic() - self.shown > REFRESH:
            self.shown = time.monotonic()
            self.live.update(self._picture(pool), refresh=True)

    def summary(self, pool: Pool) -> str:
        parts = [f"{len(pool.done)}/{self.total} done"]
        parts += [f"{self.ended[state]} {state}" for state in ("failed", "interrupted") if self.ended[state]]
        parts += [f"{len(pool.running)} running"] * bool(pool.running)
        parts += [f"{len(pool.elsewhere)} in other processes"] * bool(pool.elsewhere)
        return ", ".join(parts + ([f"about {left} left"] if (left := self._left(pool)) else []))

    def _left(self, pool: Pool) -> str:
        """The time left at the pace so far; "" before the first job has ended."""
        return time_left(self.began, len(pool.done), self.total)

    def _picture(self, pool: Pool) -> Group:
        jobs = Table.grid(padding=(0, 2, 0, 0))
        for running in pool.running:
            row = (
                ",".join(dict.fromkeys(running.slots)),
                running.task.name,
                running.task.last_line(),
            )
            jobs.add_row(*(Text(printable(cell), no_wrap=True, overflow="ellipsis") for cell in row))
        bar = Table.grid(padding=(0, 2, 0, 0))
        bar.add_row(ProgressBar(self.total, len(pool.done), width=40), self.summary(pool))
        return Group(jobs, bar)


def time_left(began: float, ended: int, total: int) -> str:
    """At the pace of the jobs that have `ended` since the moment `began`, of time.monotonic; "" before the first."""
    if not ended or ended >= total:
        return ""
    seconds = (time.monotonic() - began) / ended * (total - ended)
    minutes, hours = round(seconds / 60), seconds / 3600
    return f"{hours:.1f} h" if hours >= 2 else f"{minutes} min" if minutes >= 2 else f"{seconds:.0f} s"
