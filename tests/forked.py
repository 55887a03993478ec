"""The train command, without the seconds of its imports: in processes forked from one that has made them."""

import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from prunelab.train import main

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([
    "prunelab.job.rehearsal", "prunelab.report.publish", "prunelab.sweep.study", "prunelab.sweep.pool.launcher",
    "prunelab.sweep.search.sweeper", "hydra_plugins.hydra_submitit_launcher.submitit_launcher", "PIL.PngImagePlugin",
])  # fmt: skip


class Command:
    """`python -m train WORDS` in a folder; its standard output and error are one text, line by line or whole.

    `before` is called in its process first. The report at the end of a sweep is left out unless asked for.
    """

    def __init__(
        self, *words: str, cwd: Path, report: bool = False, before: Callable[[], object] | None = None
    ) -> None:
        reader, writer = _server.Pipe(duplex=False)
        self._process = _server.Process(target=_train, args=(words, cwd, report, writer, before))
        self._process.start()
        writer.close()
        with reader:
            self._lines = os.fdopen(os.dup(reader.fileno()), errors="replace")
        self.output = ""

    def until(self, pattern: str) -> None:
        """Waits for a line of the output that contains this."""
        for line in self._lines:
            self.output += line
            if re.search(pattern, line):
                return
        raise AssertionError(f"{pattern!r} is not in {self.output}")

    def send(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def ended(self) -> int:
        """Waits for its end; its exit status, negative for a signal. `output` is then the whole."""
        self.output += self._lines.read()
        self._process.join()
        self._lines.close()
        assert self._process.exitcode is not None
        return self._process.exitcode


def train(*words: str, cwd: Path, report: bool = False) -> tuple[int, str]:
    """The exit status and the output of a whole command."""
    command = Command(*words, cwd=cwd, report=report)
    return command.ended(), command.output


def killed(*words: str, cwd: Path, when: str) -> None:
    """A command that is killed at a line of its output."""
    command = Command(*words, cwd=cwd)
    command.until(when)
    command.send(signal.SIGKILL)
    assert command.ended() == -signal.SIGKILL


def _train(
    words: tuple[str, ...], cwd: Path, report: bool, output: Connection, before: Callable[[], object] | None
) -> None:
    from prunelab.job import measurements
    from prunelab.report import publish

    measurements.SECONDS, measurements.LEAST, measurements.BATCHES = 0.0, 2, (1, 2)  # as in conftest.py
    if not report:
        publish.publish = lambda study: (True, None)
    os.chdir(cwd)
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    sys.stdout, sys.stderr = (open(stream, "w", buffering=1, closefd=False) for stream in (1, 2))  # noqa: SIM115
    sys.argv = ["train", *words]
    if before:
        before()
    main()
