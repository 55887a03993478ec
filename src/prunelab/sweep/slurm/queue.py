"""Which jobs has Slurm not ended yet, and how did it end the others?

squeue alone is asked: it answers on every cluster, also where no accounting is kept.
"""

import logging
import os
import platform
import re
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prunelab.store.folder import RunDir, write_json
from prunelab.store.lock import BEAT, Busy, held, holder
from prunelab.store.signals import StopRequest

log = logging.getLogger(__name__)
SECONDS = 60  # that a command of Slurm may take: a busy controller answers late
OFTEN, SELDOM = 1.0, 30.0  # seconds between two questions, at first and after minutes: all users share the controller
FORGOTTEN = 7 * BEAT  # after which a lock that was held on another machine, and whose holder was killed, counts as free
CANCELLED = ("CANCELLED", "PREEMPTED")  # no failure: the same command goes on


@dataclass(frozen=True)
class SlurmJobId:
    """Slurm's name for a job, "12" or "12_3", and the file with what it says; kept in the job's folder."""

    job: str
    output: str

    def leave(self, folder: RunDir) -> None:
        write_json(folder.path / ".slurm.json", asdict(self))

    @classmethod
    def of(cls, folder: RunDir) -> "SlurmJobId | None":
        """What was left there; None where nothing was."""
        there = folder.read(".slurm.json")
        return cls(str(there["job"]), str(there.get("output"))) if there and "job" in there else None


@dataclass
class Job:
    """One of a sweep: what was asked of it and, in `params`, what it asks of Slurm."""

    overrides: list[str]
    number: int
    folder: RunDir
    params: dict[str, Any]
    ticket: SlurmJobId | None = None


def available() -> bool:
    return all(shutil.which(command) for command in ("sbatch", "srun", "squeue"))


def active() -> frozenset[str] | None:
    """This user's jobs that are queued, running or about to be queued again; None when Slurm does not answer."""
    answer = _ask("squeue", "--noheader", "--array", "--user", str(os.getuid()), "--format", "%i")
    return None if answer is None else frozenset(answer.split())


@contextmanager
def submitting(study: Path) -> Iterator[None]:
    """One command at a time looks into the queue and submits what is not there yet; another waits."""
    with ExitStack() as lock:
        while True:
            try:
                lock.enter_context(held(study / ".submitting.lock"))
                break
            except Busy:
                time.sleep(1)
        yield


def settle(ticket: SlurmJobId, folder: RunDir) -> None:
    """Sees to it that the folder of a job that Slurm has ended says how, unless it was cancelled."""
    end = time.monotonic() + FORGOTTEN
    while folder.state() == "running" and holder(folder.lock).get("host") != platform.node():
        if time.monotonic() > end:
            break
        time.sleep(1)
    if folder.state() in ("not begun", "interrupted"):
        told = dict(re.findall(r"(\w+)=(\S+)", _ask("scontrol", "--oneliner", "show", "job", ticket.job) or ""))
        state = told.get("JobState", "state unknown")
        if state not in CANCELLED:
            where = f"exit {told.get('ExitCode', 'unknown')}, on {told.get('NodeList', 'no node')}"
            folder.fail(f"Slurm job {ticket.job} ended without a word: {state}, {where}; see {ticket.output}")


def wait(jobs: Mapping[SlurmJobId, RunDir], stop: StopRequest) -> set[SlurmJobId]:
    """Until Slurm has ended them all, or `stop` is asked; returns those that go on.

    One that has a result is done whatever Slurm says. One is over when two answers in a row lack it, for a job that
    is being queued again. While Slurm does not answer, nothing is over.
    """
    left, missed, start = set(jobs), set[SlurmJobId](), time.monotonic()
    while not stop:
        there = active()
        if there is not None:
            gone = {ticket for ticket in left if ticket.job not in there}
            over = {ticket for ticket in left if ticket in gone & missed or jobs[ticket].read("result.json")}
            missed, left = gone, left - over
            for ticket in sorted(over, key=lambda ticket: jobs[ticket].path):
                log.info("%s  Slurm job %s, %d left", jobs[ticket].path.name, ticket.job, len(left))
        if not left:
            break
        _sleep(min(SELDOM, OFTEN + (time.monotonic() - start) / 10), stop)
    return left


def cancel(tickets: Iterable[SlurmJobId]) -> str:
    """The command that cancels exactly these: scancel 7 '12_[0,3]'."""
    arrays: dict[str, list[int]] = defaultdict(list)
    for ticket in tickets:
        array, _, index = ticket.job.partition("_")
        arrays[array] += [int(index)] if index else []
    return " ".join(
        ["scancel", *(f"'{a}_[{_ranges(sorted(ids))}]'" if ids else a for a, ids in sorted(arrays.items()))]
    )


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] as "0-2,5"."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ",".join(f"{a}-{b}" if a < b else str(a) for a, b in zip(starts, ends, strict=True))


def _sleep(seconds: float, stop: StopRequest) -> None:
    end = time.monotonic() + seconds
    while not stop and time.monotonic() < end:
        time.sleep(0.2)


def _ask(*command: str) -> str | None:
    """What a command of Slurm prints; None when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.debug("%s: %s", command[0], error)
        return None
    if done.returncode:
        log.debug("%s: %s", command[0], done.stderr.strip())
    return None if done.returncode else done.stdout
