"""How does one process at a time work in a folder, on one machine or on a file system that several share?

The lock is the kernel's: it goes with the process that holds it, however that ends. Some shared file systems keep such
locks to one machine, so the holder also touches the file now and then; another machine watches for that, and compares
no clocks.
"""

import errno
import fcntl
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

BEAT = 10.0  # seconds between two touches
BUSY = os.EX_TEMPFAIL  # exit status of a job that another process is at
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Busy(Exception):
    """Another process holds the lock; the message says which."""


@contextmanager
def held(path: Path, purpose: str = "") -> Iterator[None]:
    """The lock in the file `path`, for as long as the block takes. Raises Busy at once when another has it.

    The file stays: empty when its holder ended by itself, else with what `holder` returns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if not _take(file) or _beats(path):
            raise Busy(f"{path.parent}: {_name(holder(path))} is at work here")
        _write(file, {"host": platform.node(), "pid": os.getpid(), "purpose": purpose})
        over = threading.Event()
        heart = threading.Thread(target=_beat, args=(path, over), daemon=True)
        heart.start()
        try:
            yield
        finally:
            over.set()
            heart.join()
            _write(file, {})


def is_held(path: Path) -> bool:
    """Whether some process holds the lock now; writes nothing."""
    try:
        with path.open("rb") as file:
            if not _take(file):
                return True
    except OSError:
        return False
    there = holder(path)  # of another machine, to which the lock may not reach
    return _elsewhere(there) and abs(time.time() - path.stat().st_mtime) < 6 * BEAT


def holder(path: Path) -> dict[str, Any]:
    """{host, pid, purpose} of the process that has the lock, or that ended without giving it back; else {}."""
    try:
        return dict(json.loads(path.read_bytes() or b"{}"))
    except (OSError, ValueError):
        return {}


def _take(file: IO[bytes]) -> bool:
    for _ in range(20):  # one who only asks whether it is held has it for an instant
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return True
            time.sleep(0.01)
    return False


def _beats(path: Path) -> bool:
    """Whether a process of another machine goes on touching the file, whatever the clocks say."""
    if not _elsewhere(holder(path)):
        return False
    before, until = path.stat().st_mtime_ns, time.monotonic() + 3 * BEAT
    while time.monotonic() < until:
        time.sleep(BEAT / 10)
        if path.stat().st_mtime_ns != before:
            return True
    return False


def _elsewhere(there: dict[str, Any]) -> bool:
    return bool(there) and there.get("host") != platform.node()


def _beat(path: Path, over: threading.Event) -> None:
    while not over.wait(BEAT):
        try:
            os.utime(path)
        except OSError:  # the folder may be away for a moment, or for good: the work itself will tell
            continue


def _write(file: IO[bytes], what: dict[str, Any]) -> None:
    file.seek(0)
    file.truncate()
    if what:
        file.write(json.dumps(what).encode())
    file.flush()


def _name(there: dict[str, Any]) -> str:
    return f"process {there['pid']} on {there['host']}" if "pid" in there else "another process"
