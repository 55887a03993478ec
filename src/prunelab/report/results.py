"""Reads the results of a sweep, and lists the jobs that have none or an invalid one."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from prunelab.report.variants import by_settings
from prunelab.store.folder import MARKS, RunDir
from prunelab.store.naming import parts, rerun_of, short_names
from prunelab.store.result import Result, read_without_layers


class NothingToReport(Exception):
    """A folder without a single valid result; the message says why, in one line."""


@dataclass(frozen=True)
class InvalidRun:
    """A job excluded from all tables, and why; none is dropped silently."""

    folder: Path
    reason: str
    name: str = ""  # by what tells it from the other jobs; "": its folder's


def load(folder: Path) -> tuple[list[Result], list[InvalidRun]]:
    """The finished jobs of a sweep and the excluded ones, by folder name.

    Of jobs that are alike, as those of `rerun=true`, the latest counts.

    Raises NothingToReport if `folder` is not a folder or has no finished job.
    """
    if not folder.is_dir():
        raise NothingToReport(f"{folder}: no such folder; give a sweep's folder, such as outputs/demo")
    cells: dict[tuple[tuple[str, ...], str, float, int], Result] = {}
    with _without_gc():
        outcomes = [outcome(job) for job in sorted(folder.iterdir()) if _is_job(job)]
    names = short_names({run.folder: parts(run.folder.name) for run in outcomes})[1]
    unusable = [run for run in outcomes if isinstance(run, InvalidRun)]
    for run in sorted(by_settings([run for run in outcomes if isinstance(run, Result)]), key=_order, reverse=True):
        latest = cells.setdefault((run.job.table, run.method, run.job.rate, run.job.seed), run)
        if latest is not run:  # counted as another seed, it would make the standard deviation too small
            unusable.append(InvalidRun(run.folder, f"same method, rate and seed as the later {latest.folder.name}"))
    if not cells:
        raise NothingToReport(_nothing(folder, unusable))
    results = sorted(cells.values(), key=lambda result: result.folder)
    return results, [replace(run, name=names[run.folder]) for run in sorted(unusable, key=lambda run: run.folder)]


def _order(result: Result) -> tuple[str, float]:
    """By the time in the names of reruns, then by the file, whose time is another in a copy."""
    return rerun_of(result.folder.name), (result.folder / "result.json").stat().st_mtime


@contextmanager
def _without_gc() -> Iterator[None]:
    """JSON has no cycles, and searching for them takes a fifth of the time to read thousands of files."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def outcome(job: Path) -> Result | InvalidRun:
    """The result in a job's folder, or why there is none; raises nothing."""
    try:
        return read_without_layers(job)
    except FileNotFoundError:
        return InvalidRun(job, _unfinished(RunDir(job)))
    except Exception as error:  # no damaged file may hide the other jobs
        return InvalidRun(job, _reason(error))


def _unfinished(job: RunDir) -> str:
    """In the words of the table at the end of a sweep."""
    state = job.state()
    return f"{state}: {job.failure() if state == 'failed' else job.future(state) or 'just now'}"


def _is_job(child: Path) -> bool:
    """The folders of logs and figures lie beside the jobs, and are no unfinished jobs."""
    named = "=" in child.name and not child.name.startswith(".")
    return child.is_dir() and (named or any((child / mark).exists() for mark in (*MARKS, ".hydra")))


def _reason(error: Exception) -> str:
    kind = {KeyError: "result.json has no ", json.JSONDecodeError: "half-written or damaged result.json: "}
    return kind.get(type(error), "result.json: ") + " ".join(str(error).split())


def _nothing(folder: Path, unusable: list[InvalidRun]) -> str:
    if unusable:
        first = unusable[0]
        return f"{folder}: none of {len(unusable)} jobs has a valid result; {first.folder.name}: {first.reason}"
    inside = sorted(path.parent.parent for path in folder.glob("*/*/result.json"))
    hint = f"; did you mean {inside[0]}?" if inside else "; give a sweep's folder, such as outputs/demo"
    return f"{folder}: no job in this folder{hint}"
