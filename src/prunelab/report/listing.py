"""The list of all jobs below a folder with their states and results, for `prunelab ls`. Imports no torch."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from prunelab.measure.terminal_table import shown, terminal_table
from prunelab.report.results import InvalidRun, NothingToReport, outcome
from prunelab.report.tables.columns import left
from prunelab.store.folder import MARKS, RunDir
from prunelab.store.naming import parts, short_names
from prunelab.store.result import Result

UNITS = (("s", 60.0), ("min", 60.0), ("h", 24.0), ("d", float("inf")))  # and how many of each make the next
STYLES = {"failed": "red", "damaged": "red", "unreadable": "red", "interrupted": "yellow", "running": "green"}
COLUMNS = ("study", "job", "state", "accuracy (%)", "sparsity attained", "MACs left", "age")
WORDS = ("study", "job", "state")


@dataclass(frozen=True)
class Entry:
    """`state` is one of store/folder.py, "damaged" for a job whose result is, or "unreadable" for a folder."""

    study: str
    folder: Path
    state: str
    age: float  # seconds since it last wrote its state
    result: Result | None = None
    reason: str = ""

    @property
    def job(self) -> str:
        return self.folder.name


class Listing:
    """Printable with rich: what jobs of a study share, a row for each by what differs, and the number in each state."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = sorted(entries, key=lambda entry: (entry.study, entry.job))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table, reasons = terminal_table(COLUMNS, WORDS), []
        for study, entries in groupby(self.entries, key=lambda entry: entry.study):
            jobs = {entry.folder: entry for entry in entries}
            shared, names = short_names({folder: parts(folder.name) for folder in jobs})
            if shared:
                yield shown(f"{study}: all with {' '.join(shared)}")
            for folder, entry in jobs.items():
                table.add_row(*_cells(entry, names[folder]))
                if entry.reason:  # which a narrow column would break inside words
                    reasons.append(shown(f"{study}, {names[folder]}: {entry.state}: {entry.reason}"))
        yield table
        yield from reasons
        counts = Counter(entry.state for entry in self.entries)
        yield shown(f"{len(self.entries)} jobs: " + ", ".join(f"{n} {state}" for state, n in counts.items()))


def list_jobs(root: Path) -> Listing:
    """The jobs below `root`, or `root` itself. Raises NothingToReport where there is none."""
    if not root.is_dir():
        raise NothingToReport(f"{root}: no such folder; give one with studies or jobs in it, such as outputs")
    errors: list[OSError] = []
    jobs, now = list(_jobs(root, errors)), time.time()
    entries = [_entry(root, job, now) for job in jobs]
    entries += [_unreadable(root, error) for error in errors]
    if not entries:
        raise NothingToReport(f"{root}: no job in this folder or below")
    return Listing(entries)


def _jobs(root: Path, errors: list[OSError]) -> Iterator[Path]:
    """Folders of jobs, which are not searched for further jobs. Links are followed, each folder once."""
    seen = set()
    for path, folders, files in os.walk(root, onerror=errors.append, followlinks=True):
        status = os.stat(path)
        visited = (status.st_dev, status.st_ino) in seen
        seen.add((status.st_dev, status.st_ino))
        is_job = not visited and _is_job(Path(path), folders, files)
        if is_job:
            yield Path(path)
        folders[:] = [] if visited or is_job else [name for name in folders if not name.startswith(".")]


def _is_job(path: Path, folders: list[str], files: list[str]) -> bool:
    """A job that never started is known by its name alone; a study may have such a name, but holds folders."""
    named = "=" in path.name and all(name.startswith(".") for name in folders)
    return bool(MARKS.intersection(files)) or ".hydra" in folders or named


def _entry(root: Path, job: Path, now: float) -> Entry:
    result = outcome(job)
    if isinstance(result, Result):
        return Entry(_study(root, job), job.absolute(), "finished", _age(job, now), result)
    state, reason = _state(job, result)
    return Entry(_study(root, job), job.absolute(), state, _age(job, now), reason=reason)


def _state(job: Path, invalid: InvalidRun) -> tuple[str, str]:
    """State and reason. A damaged result counts as such, unless the job is running again."""
    folder = RunDir(job)
    state = folder.state()
    if state != "running" and (job / "result.json").exists():
        return "damaged", invalid.reason
    if state == "failed":
        return state, folder.failure() or ""
    if (job / "failure.json").exists() and state != "running":
        return "failed", "damaged failure.json"
    return state, ""


def _unreadable(root: Path, error: OSError) -> Entry:
    folder = Path(error.filename)
    return Entry(_study(root, folder), folder, "unreadable", 0.0, reason=error.strerror or str(error))


def _study(root: Path, job: Path) -> str:
    """The path from `root` to the folder that holds the job, or that folder's name if it is `root` or above."""
    inside = job.relative_to(root).parent
    return str(inside) if inside.name else job.absolute().parent.name


def _age(job: Path, now: float) -> float:
    """Since the result or the failure was written, else since the last start. Not negative: clocks may differ."""
    for name in ("result.json", "failure.json", ".lock", "job.json", "."):
        try:
            return max(0.0, now - (job / name).stat().st_mtime)
        except OSError:
            continue
    return 0.0


def _cells(entry: Entry, name: str) -> list[Text]:
    result = entry.result
    numbers = ["", "", ""]
    if result:
        macs = left(result.pruned.macs, result.dense.macs)
        numbers = [f"{100 * result.accuracy:.2f}", f"{result.sparsity.attained:.3f}", macs]
    rest = [shown(text) for text in (*numbers, _short(entry.age))]
    return [shown(entry.study), shown(name), shown(entry.state, STYLES.get(entry.state, "")), *rest]


def _short(seconds: float) -> str:
    """In the largest unit that it fills."""
    for unit, size in UNITS:
        if seconds < size:
            return f"{int(seconds)} {unit}"
        seconds /= size
    return ""
