"""Which jobs are there below a folder, and what has each come to? Needs no torch, and hides nothing."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from prunelab.measure.terminal_table import terminal_table
from prunelab.report.results import InvalidRun, NothingToReport, outcome
from prunelab.report.tables.columns import left
from prunelab.store.folder import RunDir
from prunelab.store.result import Result

MARKS = frozenset({"job.json", "result.json", "failure.json", ".lock"})  # of a job's folder, whatever its name
UNITS = (("s", 60.0), ("min", 60.0), ("h", 24.0), ("d", float("inf")))  # and how many make the next
STYLES = {"failed": "red", "damaged": "red", "unreadable": "red", "interrupted": "yellow", "running": "green"}
COLUMNS = ("study", "job", "state", "accuracy (%)", "sparsity attained", "MACs left", "age", "reason")
WORDS = ("study", "job", "state", "reason")


@dataclass(frozen=True)
class Entry:
    """A job's folder: a state of store/folder.py, "damaged" where its result is, or "unreadable" folders."""

    study: str
    job: str
    state: str
    age: float  # seconds since its last word
    result: Result | None = None
    reason: str = ""


class Listing:
    """Printable with rich: a row for each job, by study and name, and how many there are in which state."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = sorted(entries, key=lambda entry: (entry.study, entry.job))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = COLUMNS if any(entry.reason for entry in self.entries) else COLUMNS[:-1]
        table = terminal_table(columns, WORDS)
        for entry in self.entries:
            table.add_row(*_cells(entry)[: len(columns)])
        yield table
        counts = Counter(entry.state for entry in self.entries)
        yield Text(f"{len(self.entries)} jobs: " + ", ".join(f"{n} {state}" for state, n in counts.items()))


def below(root: Path) -> Listing:
    """Of `root`, which may be a job's folder itself. Raises NothingToReport where there is no job."""
    if not root.is_dir():
        raise NothingToReport(f"{root}: no such folder; give one with studies or jobs in it, such as outputs")
    closed: list[OSError] = []
    jobs, now = list(_jobs(root, closed)), time.time()
    entries = [_entry(root, job, now) for job in jobs]
    entries += [_unreadable(root, error) for error in closed]
    if not entries:
        raise NothingToReport(f"{root}: no job in this folder or below")
    return Listing(entries)


def _jobs(root: Path, closed: list[OSError]) -> Iterator[Path]:
    """Folders of jobs, in which no others are looked for; links are followed, each folder once."""
    seen = set()
    for place, folders, files in os.walk(root, onerror=closed.append, followlinks=True):
        here = os.stat(place)
        again = (here.st_dev, here.st_ino) in seen
        seen.add((here.st_dev, here.st_ino))
        found = not again and _is_job(Path(place), folders, files)
        if found:
            yield Path(place)
        folders[:] = [] if again or found else [name for name in folders if not name.startswith(".")]


def _is_job(place: Path, folders: list[str], files: list[str]) -> bool:
    """A job that was not begun has its name alone; a study may be named so too, but holds folders."""
    named = "=" in place.name and all(name.startswith(".") for name in folders)
    return bool(MARKS.intersection(files)) or ".hydra" in folders or named


def _entry(root: Path, job: Path, now: float) -> Entry:
    found = outcome(job)
    if isinstance(found, Result):
        return Entry(_study(root, job), job.absolute().name, "finished", _age(job, now), found)
    state, reason = _state(job, found)
    return Entry(_study(root, job), job.absolute().name, state, _age(job, now), reason=reason)


def _state(job: Path, found: InvalidRun) -> tuple[str, str]:
    """And the reason, where there is one. A damaged result is none, unless it is being made anew."""
    folder = RunDir(job)
    state = folder.state()
    if state != "running" and (job / "result.json").exists():
        return "damaged", found.reason
    if state == "failed":
        return state, str((folder.read("failure.json") or {}).get("reason") or "failure.json does not say why")
    if (job / "failure.json").exists() and state != "running":
        return "failed", "damaged failure.json"
    return state, ""


def _unreadable(root: Path, error: OSError) -> Entry:
    place = Path(error.filename)
    return Entry(_study(root, place), place.name, "unreadable", 0.0, reason=error.strerror or str(error))


def _study(root: Path, job: Path) -> str:
    """The path from `root` to the folder that holds the job; the name of that, where it is `root` or above."""
    inside = job.relative_to(root).parent
    return str(inside) if inside.name else job.absolute().parent.name


def _age(job: Path, now: float) -> float:
    """Since the result or the failure was written, else since the job was last begun; clocks may differ."""
    for name in ("result.json", "failure.json", ".lock", "job.json", "."):
        try:
            return max(0.0, now - (job / name).stat().st_mtime)
        except OSError:
            continue
    return 0.0


def _cells(entry: Entry) -> list[Text]:
    done = entry.result
    numbers = ["", "", ""]
    if done:
        macs = left(done.pruned.macs, done.dense.macs)
        numbers = [f"{100 * done.accuracy:.2f}", f"{done.attained:.3f}", macs]
    told = [Text(text) for text in (*numbers, _short(entry.age), entry.reason)]  # Text: a "[" is no markup
    return [Text(entry.study), Text(entry.job), Text(entry.state, STYLES.get(entry.state, "")), *told]


def _short(seconds: float) -> str:
    """In the largest unit of which there is a whole one."""
    for unit, size in UNITS:
        if seconds < size:
            return f"{int(seconds)} {unit}"
        seconds /= size
    return ""
