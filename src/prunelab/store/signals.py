"""Ctrl-C, SIGTERM, or a cluster that wants its node back: how does work end without a loss?"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGINT, signal.SIGTERM)
VARIABLE = "PRUNELAB_LIFELINE"  # set for a job whose standard input is held open by the process that started it


class Interrupted(Exception):
    """Ended because a signal asked for it; what was done is safe, and the same command goes on from there."""


class StopRequest:
    """Remembers the first signal; a second Ctrl-C ends at once, by KeyboardInterrupt."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def status(self) -> int:
        """What a shell expects of a process that such a signal has ended."""
        return 128 + (self.signal or signal.SIGINT)

    def listen(self) -> None:
        """Takes the signals over, also from a library that has put itself in between; in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._remember)

    def ask(self, number: int) -> None:
        """As if that signal had come, which is none of those listened to."""
        self._remember(number, None)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self:
            self.signal = number
            again = "; Ctrl-C again to end at once" if number == signal.SIGINT else ""
            log.warning("%s: ending after a checkpoint%s", signal.Signals(number).name, again)


_listening: list[StopRequest] = []


def heeded() -> bool:
    """Whether a block around this one listens already, and decides what follows a signal."""
    return bool(_listening)


@contextmanager
def stoppable() -> Iterator[StopRequest]:
    """Signals are remembered instead of ending the process; a block inside another one shares its StopRequest."""
    if _listening:
        yield _listening[0]
        return
    before: dict[int, Callable[..., Any] | int | None] = {number: signal.getsignal(number) for number in SIGNALS}
    stop = StopRequest()
    stop.listen()
    _listening.append(stop)
    try:
        yield stop
    finally:
        _listening.clear()
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def start_parent_watchdog() -> None:
    """Sends this process SIGTERM, which it answers with a checkpoint, when the process that started it is gone.

    That process sets `VARIABLE`, holds the other end of standard input and never writes, so even if it is killed the
    end of the file tells.
    """
    if os.environ.get(VARIABLE):
        threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        continue
    os.kill(os.getpid(), signal.SIGTERM)
