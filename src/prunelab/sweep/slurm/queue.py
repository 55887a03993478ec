"""Slurm's queue: which jobs it has not ended yet, and how it ended the others.

Uses only squeue and scontrol, which work on every cluster, also without accounting.
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

from prunelab.store.folder import RunDir
from prunelab.store.json_file import write_json
from prunelab.store.lock import BEAT, Busy, held, holder
from prunelab.store.naming import parts, short_names
from prunelab.store.signals import StopRequest

log = logging.getLogger(__name__)
SECONDS = 60  # that a Slurm command may take: a busy controller answers late
OFTEN, SELDOM = 1.0, 30.0  # seconds between two queries, at first and after minutes: all users share the controller
FORGOTTEN = 7 * BEAT  # after which a lock that was held on another machine, and whose holder was killed, counts as free
ITS_TURN = ("None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime")  # squeue's reasons of jobs that will run
CANCELLED = ("CANCELLED", "PREEMPTED")  # no failure: the same command resumes


@dataclass(frozen=True)
class SlurmJobId:
    """Slurm's id of a job, "12" or "12_3", and the file of its output; kept in the job's folder."""

    job: str
    output: str

    def save(self, folder: RunDir) -> None:
        write_json(folder.path / ".slurm.json", asdict(self))

    @classmethod
    def of(cls, folder: RunDir) -> "SlurmJobId | None":
        """The id saved there, or None."""
        saved = folder.read(".slurm.json")
        return cls(str(saved["job"]), str(saved.get("output"))) if saved and "job" in saved else None


@dataclass
class Submission:
    """A job of a sweep and, in `params`, what it requests of Slurm."""

    overrides: list[str]
    number: int
    folder: RunDir
    params: dict[str, Any]
    id: SlurmJobId | None = None
    refused: str = ""  # sbatch's reason


def available() -> bool:
    return all(shutil.which(command) for command in ("sbatch", "srun", "squeue"))


def active() -> dict[str, str] | None:
    """This user's jobs that are queued, running or about to be queued again, and squeue's reason why each waits.

    None when Slurm does not answer.
    """
    answer = _query("squeue", "--noheader", "--array", "--user", str(os.getuid()), "--format", "%i|%r")
    if answer is None:
        return None
    rows = (line.partition("|") for line in answer.splitlines())
    return {job.strip(): reason.strip() for job, _, reason in rows}


def array_limit() -> int:
    """The most jobs that one array may have here."""
    limit = re.search(r"MaxArraySize\s*=\s*(\d+)", _query("scontrol", "show", "config") or "")
    return max(1, int(limit[1])) if limit else 1001  # Slurm's default


@contextmanager
def submitting(study: Path) -> Iterator[None]:
    """Lets one command at a time read the queue and submit what is not there yet; others wait."""
    with ExitStack() as lock:
        while True:
            try:
                lock.enter_context(held(study / ".submitting.lock"))
                break
            except Busy:
                time.sleep(1)
        yield


def record_end(job: SlurmJobId, folder: RunDir, stop: StopRequest) -> str:
    """Records how Slurm ended a job that left no record itself, unless it was cancelled; says how it ended.

    A lock that a killed job has left on another machine is waited for, unless `stop`.
    """
    end = time.monotonic() + FORGOTTEN
    while folder.state() == "running" and holder(folder.lock).get("host") != platform.node():
        if stop or time.monotonic() > end:
            break
        time.sleep(1)
    if folder.state() in ("not begun", "interrupted"):
        fields = dict(re.findall(r"(\w+)=(\S+)", _query("scontrol", "--oneliner", "show", "job", job.job) or ""))
        state = fields.get("JobState", "state unknown")
        if state in CANCELLED:
            return "was cancelled"
        where = f"exit {fields.get('ExitCode', 'unknown')}, on {fields.get('NodeList', 'no node')}"
        folder.fail(f"Slurm job {job.job} ended without a result: {state}, {where}; see {job.output}")
    return {"finished": "finished", "failed": "failed"}.get(folder.state(), "ended")


def wait(jobs: Mapping[SlurmJobId, RunDir], stop: StopRequest) -> set[SlurmJobId]:
    """Waits until Slurm has ended all jobs, or until `stop`; returns those that go on, and records how others ended.

    A job with a result is over whatever Slurm says. Any other is over when two answers in a row lack it, as one that is
    being queued again is missing for a moment. While Slurm does not answer, no job is over. Logs once why jobs are held
    or cannot start.
    """
    _, name = short_names({run.path: parts(run.path.name) for run in jobs.values()})
    left, missed, start = set(jobs), set[SlurmJobId](), time.monotonic()
    stuck: dict[SlurmJobId, str] = {}
    while not stop:
        queued = active()
        if queued is not None:
            gone = {job for job in left if job.job not in queued}
            over = {job for job in left if job in gone & missed or jobs[job].result()}
            missed, left = gone, left - over
            for job in sorted(over, key=lambda job: jobs[job].path):
                ended = record_end(job, jobs[job], stop)
                log.info("%s  Slurm job %s %s, %d left", name[jobs[job].path], job.job, ended, len(left))
            before, stuck = stuck, {job: queued[job.job] for job in left if _is_stuck(queued.get(job.job))}
            new = {job: reason for job, reason in stuck.items() if before.get(job) != reason}
            for reason in sorted(set(new.values())):
                log.warning("Slurm does not start %s: %s", _named(j for j in new if new[j] == reason), reason)
        if not left:
            break
        _sleep(min(SELDOM, OFTEN + (time.monotonic() - start) / 10), stop)
    return left


def _is_stuck(reason: str | None) -> bool:
    """Whether a job waits for something other than its turn."""
    return reason not in (None, "", *ITS_TURN)


def cancel(jobs: Iterable[SlurmJobId]) -> str:
    """The command that cancels exactly these: scancel 7 '12_[0,3]'."""
    return f"scancel {_named(jobs)}"


def _named(jobs: Iterable[SlurmJobId]) -> str:
    """As Slurm's commands take them: 7 '12_[0,3]'."""
    arrays: dict[str, list[int]] = defaultdict(list)
    for job in jobs:
        array, _, index = job.job.partition("_")
        arrays[array] += [int(index)] if index else []
    return " ".join(f"'{a}_[{_ranges(sorted(ids))}]'" if ids else a for a, ids in sorted(arrays.items()))


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] as "0-2,5"."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ",".join(f"{a}-{b}" if a < b else str(a) for a, b in zip(starts, ends, strict=True))


def _sleep(seconds: float, stop: StopRequest) -> None:
    end = time.monotonic() + seconds
    while not stop and time.monotonic() < end:
        time.sleep(0.2)


def _query(*command: str) -> str | None:
    """The output of a Slurm command; None when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.debug("%s: %s", command[0], error)
        return None
    if done.returncode:
        log.debug("%s: %s", command[0], done.stderr.strip())
    return None if done.returncode else done.stdout
