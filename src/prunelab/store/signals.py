"""Ctrl-C, SIGTERM, a closed terminal and preemption: a request to stop, after a checkpoint."""

import logging
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
VARIABLE = "PRUNELAB_LIFELINE"  # set for a job whose standard input is held open by the process that started it


class Interrupted(Exception):
    """Stopped by a signal; the same command resumes from the last checkpoint."""


class Killed(Interrupted):
    """Ended by a signal that nobody can answer, as the kernel's out-of-memory killer sends."""


class StopRequest:
    """Remembers the first signal; a second Ctrl-C ends at once, by KeyboardInterrupt."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def status(self) -> int:
        """The exit status by which a shell knows that this signal ended the process."""
        return 128 + (self.signal or signal.SIGINT)

    def listen(self) -> None:
        """Installs the handlers, also over those that a library has installed since; in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # by nohup
                    signal.signal(number, self._remember)

    def request(self, number: int) -> None:
        """Acts as if signal `number`, which is not among SIGNALS, were one of them."""
        self._remember(number, None)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGHUP:
            _forget_closed_terminal()
        if not self:
            self.signal = number
            hint = "; Ctrl-C again to end at once" if number == signal.SIGINT else ""
            said = {"from_signal": True}
            log.warning("%s: ending after a checkpoint%s", signal.Signals(number).name, hint, extra=said)


def _forget_closed_terminal() -> None:
    """Discards further output to a terminal that is gone: writing to it is an error."""
    for stream in (1, 2):
        if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def end_quietly() -> None:
    """Until the first `stoppable` block Ctrl-C ends the process at once, without a traceback."""
    signal.signal(signal.SIGINT, lambda *_: sys.exit(128 + signal.SIGINT))


_handlers: list[StopRequest] = []


def is_handled() -> bool:
    """Whether a `stoppable` block around the caller handles signals."""
    return bool(_handlers)


def is_stopping() -> bool:
    """Whether a signal has asked a `stoppable` block around the caller to end."""
    return any(_handlers)


@contextmanager
def stoppable() -> Iterator[StopRequest]:
    """Within this block a signal is remembered instead of ending the process; nested blocks share one StopRequest."""
    if _handlers:
        yield _handlers[0]
        return
    before: dict[int, Callable[..., Any] | int | None] = {number: signal.getsignal(number) for number in SIGNALS}
    stop = StopRequest()
    stop.listen()
    _handlers.append(stop)
    try:
        yield stop
    finally:
        _handlers.clear()
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def start_parent_watchdog() -> None:
    """Sends this process SIGTERM, on which it writes a checkpoint, when the process that started it is gone.

    That process sets `VARIABLE` and holds the other end of standard input open without writing; end-of-file shows its
    end, even by SIGKILL.
    """
    if os.environ.get(VARIABLE):
        threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        continue
    os.kill(os.getpid(), signal.SIGTERM)
