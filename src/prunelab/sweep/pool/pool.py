"""How do many jobs share the devices of one machine, each a process of its own?"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from prunelab.store.failure import Failed
from prunelab.store.folder import RunDir
from prunelab.store.lock import BUSY, is_held
from prunelab.store.signals import SIGNALS, VARIABLE, Interrupted, StopRequest
from prunelab.sweep.pool.devices import DeviceSlots

POLL = 0.05  # seconds between two looks at the processes
AGAIN = 2.0  # seconds between two looks at a job that another process is at
GRACE = 60.0  # seconds from SIGTERM, which asks for a checkpoint, to SIGKILL
OUTPUT = "output.log"  # in a job's folder: all that it said
TAIL = 4096  # bytes at its end, in which the last line stands
STOPPED = tuple(128 + number for number in SIGNALS)  # exit statuses of a job that heeded one
RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")  # not of these jobs


@dataclass(eq=False)
class Task:
    """A job: where it stands, the command that runs it there, and how many devices it trains on."""

    command: Callable[[RunDir], Sequence[str]]
    where: Callable[[], RunDir]  # asked when its turn comes: to compose a configuration takes a while
    devices: int = 1
    alone: bool = False  # after memory ran out: nothing else on its devices
    status: int | None = None  # of its process, negative for a signal; None: it has not ended
    error: OSError | None = None  # that kept it from being started
    seconds: float = 0.0

    @cached_property
    def folder(self) -> RunDir:
        return self.where()

    def problem(self) -> Exception:
        """Why it ended as it did; of one that kept no record, the signal or the last thing it said."""
        if self.error:
            return self.error
        if failure := self.folder.read("failure.json"):
            return Failed(failure["reason"])
        if self.status in STOPPED:
            return Interrupted("asked to stop")
        if self.status and self.status < 0:
            return Interrupted(f"killed by {signal.Signals(-self.status).name}")
        return Failed(f"{last_line(self.folder.path / OUTPUT)} (exit status {self.status})")


def last_line(output: Path) -> str:
    """Of a file that may be long, or not there; "" where there is none."""
    try:
        with output.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


@dataclass(eq=False)
class _Running:
    task: Task
    process: subprocess.Popen[bytes]
    seats: list[str]
    began: float


class Pool:
    """Runs tasks as places become free, first come first served.

    One that ran out of memory beside others is run once more with nothing beside it. One that another process is at
    is waited for, and taken over should that process die. Where `stop` is asked, and when this process is gone, all
    end with a checkpoint. `watch` is called with the pool some times a second.
    """

    def __init__(
        self, seats: DeviceSlots, stop: StopRequest, watch: Callable[["Pool"], None] = lambda pool: None
    ) -> None:
        self.seats, self.stop, self.watch = seats, stop, watch
        self.waiting: list[Task] = []
        self.elsewhere: list[Task] = []
        self.running: list[_Running] = []
        self.done: list[Task] = []

    def run(self, tasks: Sequence[Task]) -> None:
        """Until every task has ended, or the running ones after `stop`.

        Raises ValueError, with nothing started, for a task that wants more devices than there are.
        """
        for task in tasks:
            if task.devices > self.seats.most:
                raise ValueError(f"trainer.devices={task.devices}: {self.seats.too_few}")
        self.waiting = list(tasks)
        began, looked, asked = time.time(), 0.0, False
        try:
            while self.running or ((self.waiting or self.elsewhere) and not self.stop):
                self._collect()
                if self.stop and not asked:
                    asked = True
                    self._signal(signal.SIGTERM)
                if not self.stop:
                    if time.monotonic() - looked > AGAIN:
                        looked = time.monotonic()
                        self._look_elsewhere()
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
            if _since(task.folder.path / "result.json", began):
                self._move(task, self.done, status=0)  # another sweep was faster
            elif is_held(task.folder.lock):
                self._move(task, self.elsewhere)
            elif (seats := self.seats.take(task.devices, task.alone)) is not None:
                self._begin(task, seats)
            else:
                return  # a large job is not passed by small ones for ever

    def _begin(self, task: Task, seats: list[str]) -> None:
        try:
            running = self._start(task, seats)
        except OSError as error:  # its folder cannot be made or written to
            self.seats.give(seats)
            task.error = error
            self._move(task, self.done, status=os.EX_IOERR)
        else:
            self.waiting.remove(task)
            self.running.append(running)

    def _start(self, task: Task, seats: list[str]) -> _Running:
        task.folder.path.mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if name not in RANKS}
        with (task.folder.path / OUTPUT).open("ab") as output:
            process = subprocess.Popen(
                task.command(task.folder),
                env=kept | self.seats.environment(seats) | {VARIABLE: "1", "HYDRA_FULL_ERROR": "1"},
                stdin=subprocess.PIPE,  # the lifeline
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for this process, which tells them
            )
        return _Running(task, process, seats, time.monotonic())

    def _collect(self) -> None:
        for one in list(self.running):
            if one.process.poll() is None:
                continue
            self.running.remove(one)
            self.seats.give(one.seats)
            task, task.seconds = one.task, one.task.seconds + time.monotonic() - one.began
            assert one.process.stdin is not None
            one.process.stdin.close()
            failure = task.folder.read("failure.json") or {}
            if one.process.returncode == BUSY:
                self.elsewhere.append(task)
            elif one.process.returncode and failure.get("memory") and not task.alone and self.seats.jobs > 1:
                task.alone = True
                self.waiting.append(task)
            else:
                task.status = one.process.returncode
                self.done.append(task)

    def _look_elsewhere(self) -> None:
        for task in list(self.elsewhere):
            if not is_held(task.folder.lock):
                self.elsewhere.remove(task)
                self.waiting.append(task)

    def _move(self, task: Task, to: list[Task], status: int | None = None) -> None:
        self.waiting.remove(task)
        task.status = status
        to.append(task)

    def _signal(self, number: int) -> None:
        for one in self.running:
            try:
                os.killpg(one.process.pid, number)
            except ProcessLookupError:
                continue

    def _end(self) -> None:
        """Nothing outlives this, whatever went wrong."""
        self._signal(signal.SIGTERM)
        until = time.monotonic() + GRACE
        while self.running and time.monotonic() < until:
            self._collect()
            time.sleep(POLL)
        self._signal(signal.SIGKILL)
        for one in self.running:
            one.process.wait()


def _since(path: Path, when: float) -> bool:
    try:
        return path.stat().st_mtime > when
    except OSError:
        return False
