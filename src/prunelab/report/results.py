"""What did the jobs of a sweep end with? All result files of a folder, and the jobs without a sound one."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prunelab.store.result import Result, read_without_layers


class NothingToReport(Exception):
    """A folder without a single usable result; the message says why, in one line."""


@dataclass(frozen=True)
class InvalidRun:
    """A job that no table may count, and why; never dropped in silence."""

    folder: Path
    reason: str


def load(folder: Path) -> tuple[list[Result], list[InvalidRun]]:
    """Every job of a sweep, in the order of the folder names: the finished ones, and the others.

    Raises NothingToReport if `folder` is not a folder or none of its jobs is usable.
    """
    if not folder.is_dir():
        raise NothingToReport(f"{folder}: no such folder; give a sweep's folder, such as outputs/demo")
    cells: dict[tuple[str, str, float, int], Result] = {}
    unusable = []
    with _uncollected():
        found = [outcome(job) for job in sorted(folder.iterdir()) if _is_job(job)]
    for one in found:
        if isinstance(one, Result):
            first = cells.setdefault((one.job.comparable, one.method, one.job.rate, one.job.seed), one)
            if first is one:
                continue
            # As one more seed it would make the spread look smaller than it is.
            one = InvalidRun(one.folder, f"same method, rate and seed as {first.folder.name}")
        unusable.append(one)
    if not cells:
        raise NothingToReport(_nothing(folder, unusable))
    return list(cells.values()), unusable


@contextmanager
def _uncollected() -> Iterator[None]:
    """JSON has no cycles; looking for some takes a fifth of the time to read thousands of files."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def outcome(job: Path) -> Result | InvalidRun:
    """What one job's folder came to; raises nothing."""
    try:
        return read_without_layers(job)
    except FileNotFoundError:
        return InvalidRun(job, "unfinished: no result.json")
    except Exception as error:  # whatever a damaged file provokes must not hide the other jobs
        return InvalidRun(job, _reason(error))


def _is_job(child: Path) -> bool:
    """Logs and figures lie in the same folder, and are no unfinished jobs."""
    named = "=" in child.name and not child.name.startswith(".")
    return child.is_dir() and (named or (child / "result.json").exists() or (child / ".hydra").exists())


def _reason(error: Exception) -> str:
    kind = {KeyError: "result.json has no ", json.JSONDecodeError: "half-written or damaged result.json: "}
    return kind.get(type(error), "result.json: ") + " ".join(str(error).split())


def _nothing(folder: Path, unusable: list[InvalidRun]) -> str:
    if unusable:
        first = unusable[0]
        return f"{folder}: none of {len(unusable)} jobs is usable; {first.folder.name}: {first.reason}"
    inside = sorted(found.parent.parent for found in folder.glob("*/*/result.json"))
    hint = f"; did you mean {inside[0]}?" if inside else "; give a sweep's folder, such as outputs/demo"
    return f"{folder}: no job in this folder{hint}"
