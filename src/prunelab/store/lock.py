"""A lock that lets one process at a time work in a folder, also on a file system that several machines share.

The kernel releases it when its holder ends, however that happens. Some shared file systems keep such locks to one
machine or have none, so the holder also touches the file from time to time, and others watch for that. Times are
compared with those of the same file system, never with the clock of this machine.
"""

import errno
import fcntl
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from prunelab.store.json_file import read_json

BEAT = 10.0  # seconds between two touches
BUSY = os.EX_TEMPFAIL  # exit status of a job that another process works on
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Busy(Exception):
    """Another process holds the lock; the message says which."""


@contextmanager
def held(path: Path, purpose: str = "") -> Iterator[None]:
    """Holds the lock in the file `path` during the block. Raises Busy at once when another process holds it.

    The file stays: empty when its holder released it, else with what `holder` returns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        taken = _take(file)
        if taken is False or (_not_covered(taken, path) and _beats(path)):
            raise Busy(in_use(path))
        owner = {"host": platform.node(), "pid": os.getpid(), "purpose": purpose}
        _write(file, owner)
        if holder(path) != owner:  # a process of another machine took it at the same time
            raise Busy(in_use(path))
        released = threading.Event()
        heartbeat = threading.Thread(target=_beat, args=(path, released), daemon=True)
        heartbeat.start()
        try:
            yield
        finally:
            released.set()
            heartbeat.join()
            _write(file, {})


def is_held(path: Path) -> bool:
    """Whether some process holds the lock now; writes nothing."""
    try:
        with path.open("rb") as file:
            free = _flock(file, fcntl.LOCK_SH)  # on NFS an exclusive lock needs a writable file
            return free is False or (_not_covered(free, path) and _is_fresh(path))
    except OSError:
        return False


def holder(path: Path) -> dict[str, Any]:
    """{host, pid, purpose} of the process that holds the lock, or ended without releasing it; else {}."""
    try:
        process = read_json(path)
    except (OSError, ValueError):
        return {}
    return process if "host" in process else {}


def in_use(path: Path) -> str:
    """That a process holds the lock, and which."""
    process = holder(path)
    name = f"process {process['pid']} on {process['host']}" if "pid" in process else "another process"
    return f"{path.parent} is in use by {name}"


def _take(file: IO[bytes]) -> bool | None:
    for _ in range(20):  # `is_held` in another process takes it for an instant
        if (taken := _flock(file, fcntl.LOCK_EX)) is not False:
            return taken
        time.sleep(0.01)
    return False


def _flock(file: IO[bytes], kind: int) -> bool | None:
    """False where another process has it; None on file systems without locks."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in UNSUPPORTED else False
    return True


def _not_covered(locked: bool | None, path: Path) -> bool:
    """Whether the file names a holder that the kernel's lock does not cover."""
    named = holder(path)
    return bool(named) and (locked is None or named.get("host") != platform.node())


def _is_fresh(path: Path) -> bool:
    """Whether it was touched just now: neither long ago nor, as before a clock was set back, in the future."""
    return abs(_now(path.parent) - path.stat().st_mtime) < 6 * BEAT


def _beats(path: Path) -> bool:
    """Whether some process keeps touching the file, whatever the clocks say."""
    before, deadline = path.stat().st_mtime_ns, time.monotonic() + 3 * BEAT
    while time.monotonic() < deadline:
        time.sleep(BEAT / 10)
        if path.stat().st_mtime_ns != before:
            return True
    return False


def _now(folder: Path) -> float:
    """The time by the clock that stamps the files of `folder`, which may be a server's."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


def _beat(path: Path, released: threading.Event) -> None:
    while not released.wait(BEAT):
        try:
            os.utime(path)
        except OSError:  # the folder may be gone for a moment or for good: the work itself will fail then
            continue


def _write(file: IO[bytes], holder: dict[str, Any]) -> None:
    file.seek(0)
    file.truncate()
    if holder:
        file.write(json.dumps(holder).encode())
    file.flush()
    os.fsync(file.fileno())
