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
LIVING = (
    "PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "COMPLETING", "STAGE_OUT",
    "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT",
)  # fmt: skip


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

    None when Slurm does not answer. Those in hidden partitions too, and whatever the user's own squeue leaves out.
    """
    answer = _query("squeue", "--all", "--noheader", "--array", "--user", str(os.getuid()), "--format", "%i|%r")
    if answer is None:
        return None
    rows = (line.partition("|") for line in answer.splitlines())
    return {job.strip(): reason.strip() for job, _, reason in rows}


def array_limit() -> int:
    """The most jobs that one array may have here."""
    limit = re.search(r"MaxArraySize\s*=\s*(\d+)", _query("scontrol", "show", "config") or "")
    return max(1, int(limit[1])) if limit else 1001  # Slurm's default


def is_preempted() -> bool:
    """Whether this job has been told to make room, and is in the grace time that it has for that."""
    return _details(os.environ.get("SLURM_JOB_ID", "")).get("PreemptTime", "None") != "None"


@contextmanager
def submitting(study: Path, stop: StopRequest) -> Iterator[None]:
    """Lets one command at a time read the queue and submit what is not there yet; others wait, but not after `stop`."""
    said = False
    with ExitStack() as lock:
        while not stop:
            try:
                lock.enter_context(held(study / ".submitting.lock"))
                break
            except Busy:
                if not said:
                    log.info("another command is submitting jobs of this study; waiting until it has")
                said = True
                time.sleep(1)
        yield


def record_end(job: SlurmJobId, folder: RunDir, stop: StopRequest) -> str:
    """Records how Slurm ended a job that left no record itself, unless it was cancelled; says how it ended.

    "" where Slurm has not ended it. A lock that a killed job has left on another machine is waited for, unless `stop`.
    """
    end = time.monotonic() + FORGOTTEN
    while folder.state() == "running" and holder(folder.lock).get("host") != platform.node():
        if stop or time.monotonic() > end:
            break
        time.sleep(1)
    if folder.state() in ("not begun", "interrupted"):
        fields = _details(job.job)
        state = fields.get("JobState", "state unknown")
        if state in LIVING:
            return ""
        if state in CANCELLED:
            return "was cancelled"
        where = f"exit {fields.get('ExitCode', 'unknown')}, on {fields.get('NodeList', 'no node')}"
        folder.fail(f"Slurm job {job.job} ended without a result: {state}, {where}; see {job.output}")
    return {"finished": "finished", "failed": "failed"}.get(folder.state(), "ended")


def wait(jobs: Mapping[SlurmJobId, RunDir], stop: StopRequest) -> set[SlurmJobId]:
    """Waits until Slurm has ended all jobs, or until `stop`; returns those that go on, and records how others ended.

    A job with a result is over whatever Slurm says. Any other is over when two answers in a row lack it, as one that is
    being queued again is missing for a moment, and scontrol does not call it living. While Slurm does not answer, no
    job is over. Logs once why jobs are held or cannot start.
    """
    _, name = short_names({run.path: parts(run.path.name) for run in jobs.values()})
    left, missed, start = set(jobs), set[SlurmJobId](), time.monotonic()
    said: set[tuple[SlurmJobId, str]] = set()
    while not stop:
        queued = active()
        if queued is not None:
            gone = {job for job in left if job.job not in queued}
            over = {job for job in left if job in gone & missed or jobs[job].result()}
            missed = gone
            for job in sorted(over, key=lambda job: jobs[job].path):
                if ended := record_end(job, jobs[job], stop):
                    left.remove(job)
                    log.info("%s  Slurm job %s %s, %d left", name[jobs[job].path], job.job, ended, len(left))
            new = {(job, queued[job.job]) for job in left if _is_stuck(queued.get(job.job))} - said
            for reason in sorted({reason for _, reason in new}):
                log.warning("Slurm does not start %s: %s", _named(job for job, why in new if why == reason), reason)
            said |= new
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


def _details(job: str) -> dict[str, str]:
    """What scontrol says of a job, as {"JobState": "RUNNING"}; {} where it says nothing."""
    return dict(re.findall(r"(\w+)=(\S+)", _query("scontrol", "--oneliner", "show", "job", job) or ""))


def _query(*command: str) -> str | None:
    """The output of a Slurm command; None when it fails."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SCONTROL_"))}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=plain)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.debug("%s: %s", command[0], error)
        return None
    if done.returncode:
        log.debug("%s: %s", command[0], done.stderr.strip())
    return None if done.returncode else done.stdout
