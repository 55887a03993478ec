"""How far is a sweep? One line that stays, or where there is no terminal a line for each job that ends."""

import logging
import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from prunelab.runs.pool import OUTPUT, Pool, Task, last_line

log = logging.getLogger(__name__)


class Board:
    """Watches a Pool of `total` tasks."""

    def __init__(self, total: int) -> None:
        self.total, self.began, self.told = total, time.monotonic(), 0
        console = Console(stderr=True)
        self.live = Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Board":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live:
            self.live.stop()

    def __call__(self, pool: Pool) -> None:
        for task in pool.done[self.told :]:
            self.told += 1
            log.info("%s  %s  %.0f s   [%s]", _state(task), task.folder.path.name, task.seconds, self.summary(pool))
        if self.live:
            self.live.update(self._picture(pool))

    def summary(self, pool: Pool) -> str:
        failed = sum(bool(task.status) for task in pool.done)
        parts = [f"{len(pool.done)}/{self.total} done"]
        parts += [f"{failed} failed"] * bool(failed) + [f"{len(pool.running)} running"] * bool(pool.running)
        parts += [f"{len(pool.elsewhere)} in other processes"] * bool(pool.elsewhere)
        return ", ".join(parts + ([f"about {left} left"] if (left := self._left(pool)) else []))

    def _left(self, pool: Pool) -> str:
        """By the pace so far; "" before the first job has ended."""
        ended, to_come = len(pool.done), self.total - len(pool.done)
        if not ended or not to_come:
            return ""
        seconds = (time.monotonic() - self.began) / ended * to_come
        minutes, hours = round(seconds / 60), seconds / 3600
        return f"{hours:.1f} h" if hours >= 2 else f"{minutes} min" if minutes >= 2 else f"{seconds:.0f} s"

    def _picture(self, pool: Pool) -> Group:
        jobs = Table.grid(padding=(0, 2, 0, 0))
        for one in pool.running:
            row = (
                ",".join(dict.fromkeys(one.seats)),
                one.task.folder.path.name,
                last_line(one.task.folder.path / OUTPUT),
            )
            jobs.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
        return Group(jobs, ProgressBar(self.total, len(pool.done), width=60), Text(self.summary(pool)))


def _state(task: Task) -> str:
    if not task.status:
        return "finished"
    return "failed  " if task.folder.state() == "failed" else "ended   "
