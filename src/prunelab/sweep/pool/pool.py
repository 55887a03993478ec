"""Runs many jobs on the devices of one machine, each in a process of its own."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from prunelab.store.failure import Failed
from prunelab.store.folder import RunDir
from prunelab.store.lock import BUSY, is_held
from prunelab.store.signals import SIGNALS, VARIABLE, Interrupted, Killed, StopRequest
from prunelab.sweep.interpreter import search_path
from prunelab.sweep.pool.devices import DeviceSlots

POLL = 0.05  # seconds between two checks of the processes
AGAIN = 2.0  # seconds between two checks of a job that another process works on
GRACE = 60.0  # seconds from SIGTERM, which asks for a checkpoint, to SIGKILL
OUTPUT = "output.log"  # in a job's folder: its standard output and error
TAIL = 4096  # bytes at its end that are searched for the last line
STOPPED = tuple(128 + number for number in SIGNALS)  # exit statuses of a job that a signal ended
RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")  # not for jobs


@dataclass(eq=False)
class Task:
    """A job: its folder, the command that runs it there, and the number of devices it trains on."""

    command: Callable[[RunDir], Sequence[str]]
    where: Callable[[], RunDir]  # called when its turn comes: composing a configuration takes a while
    devices: int = 1
    name: str = ""  # for a list of jobs
    alone: bool = False  # after memory ran out: nothing else on its devices
    status: int | None = None  # of its process, negative for a signal; None: it has not ended
    error: OSError | None = None  # that kept it from being started
    seconds: float = 0.0
    before: int = 0  # bytes of its output that earlier attempts have written

    @cached_property
    def folder(self) -> RunDir:
        return self.where()

    def problem(self) -> Exception:
        """Why it ended without a result: from its record, else the signal or the last line of its output."""
        if self.error:
            return self.error
        if failure := self.folder.failure():
            return Failed(failure)
        if self.status in STOPPED:
            return Interrupted("stopped")
        if self.status and self.status < 0:
            return Killed(f"killed by {signal.Signals(-self.status).name}")
        return Failed(f"{self.last_line() or 'ended without a word'} (exit status {self.status})")

    def last_line(self) -> str:
        """The last line of its output, which may be long, or missing; "" where there is none."""
        try:
            with (self.folder.path / OUTPUT).open("rb") as file:
                file.seek(max(self.before, file.seek(0, os.SEEK_END) - TAIL))
                lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


@dataclass(eq=False)
class _Running:
    task: Task
    process: subprocess.Popen[bytes]
    slots: list[str]
    began: float


class Pool:
    """Runs tasks in order as slots become free.

    A task that ran out of memory beside others is run once more, alone on its devices. The pool waits for a task that
    another process works on, and takes it over if that process dies. On `stop`, and when this process is gone, all end
    with a checkpoint. `watch` is called with the pool several times a second.
    """

    def __init__(
        self, slots: DeviceSlots, stop: StopRequest, watch: Callable[["Pool"], None] = lambda pool: None
    ) -> None:
        self.slots, self.stop, self.watch = slots, stop, watch
        self.waiting: list[Task] = []
        self.elsewhere: list[Task] = []
        self.running: list[_Running] = []
        self.done: list[Task] = []

    def run(self, tasks: Sequence[Task]) -> None:
        """Returns when every task has ended, after `stop` when the running ones have.

        Raises ValueError, with nothing started, for a task that needs more devices than there are.
        """
        for task in tasks:
            if task.devices > self.slots.most:
                raise ValueError(f"trainer.devices={task.devices}: {self.slots.too_few}")
        self.waiting = list(tasks)
        began, checked, signalled = time.time(), 0.0, False
        try:
            while self.running or ((self.waiting or self.elsewhere) and not self.stop):
                self._collect()
                if self.stop and not signalled:
                    signalled = True
                    self._signal(signal.SIGTERM)
                if not self.stop:
                    if time.monotonic() - checked > AGAIN:
                        checked = time.monotonic()
                        self._take_back()
                    self._fill(began)
                self.watch(self)
                time.sleep(POLL)
        except KeyboardInterrupt:  # a second Ctrl-C: at once
            self._signal(signal.SIGKILL)
            raise
        finally:
            self._end()

    def _fill(self, began: float) -> None:
        for task in list(self.waiting):
            if (slots := self.slots.take(task.devices, task.alone)) is None:
                return  # else small jobs could overtake a large one for ever
            if _since(task.folder.path / "result.json", began) and task.folder.result():
                self._move(task, self.done, status=0)  # another sweep was faster
            elif is_held(task.folder.lock):
                self._move(task, self.elsewhere)
            else:
                self._begin(task, slots)
                continue
            self.slots.give(slots)

    def _begin(self, task: Task, slots: list[str]) -> None:
        try:
            running = self._start(task, slots)
        except OSError as error:  # its folder cannot be made or written to
            self.slots.give(slots)
            task.error = error
            self._move(task, self.done, status=os.EX_IOERR)
        else:
            self.waiting.remove(task)
            self.running.append(running)

    def _start(self, task: Task, slots: list[str]) -> _Running:
        task.folder.path.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            task.folder.forget_failures()
        kept = {name: value for name, value in os.environ.items() if name not in RANKS}
        added = {VARIABLE: "1", "HYDRA_FULL_ERROR": "1", "PYTHONPATH": search_path()}
        with (task.folder.path / OUTPUT).open("ab") as output:
            task.before = output.tell()
            process = subprocess.Popen(
                task.command(task.folder),
                env=kept | self.slots.environment(slots) | added,
                stdin=subprocess.PIPE,  # its end tells the job that this process is gone
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process alone, which signals them
            )
        return _Running(task, process, slots, time.monotonic())

    def _collect(self) -> None:
        for running in list(self.running):
            if not _ended(running.process):
                continue
            self.running.remove(running)
            self.slots.give(running.slots)
            task, task.seconds = running.task, running.task.seconds + time.monotonic() - running.began
            assert running.process.stdin is not None
            running.process.stdin.close()
            memory = task.folder.failure_record().get("memory")
            if running.process.returncode == BUSY:
                self.elsewhere.append(task)
            elif running.process.returncode and memory and not task.alone and self.slots.jobs > 1:
                task.alone = True
                self.waiting.append(task)
            else:
                task.status = running.process.returncode
                self.done.append(task)

    def _take_back(self) -> None:
        for task in list(self.elsewhere):
            if not is_held(task.folder.lock):
                self.elsewhere.remove(task)
                self.waiting.append(task)

    def _move(self, task: Task, to: list[Task], status: int | None = None) -> None:
        self.waiting.remove(task)
        task.status = status
        to.append(task)

    def _signal(self, number: int) -> None:
        for running in self.running:
            try:
                os.killpg(running.process.pid, number)
            except ProcessLookupError:
                continue

    def _end(self) -> None:
        """Ends every process that still runs."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while self.running and time.monotonic() < deadline:
            self._collect()
            time.sleep(POLL)
        self._signal(signal.SIGKILL)
        for running in self.running:
            running.process.wait()


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has; then what is left of its group, as other ranks of the job, is killed.

    Before it is reaped, so that the number of the group, which is its own since its start, cannot be another's.
    """
    if hasattr(os, "waitid"):  # on macOS since Python 3.13
        with suppress(OSError):  # where SIGCHLD is ignored nobody can wait for it
            if not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return False
            os.killpg(process.pid, signal.SIGKILL)
    return process.poll() is not None


def _since(path: Path, when: float) -> bool:
    try:
        return path.stat().st_mtime > when
    except OSError:
        return False
