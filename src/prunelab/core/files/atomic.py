"""Atomic file writes."""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

BEGUN, PARTIAL = ".prunelab-", ".partial"  # how names begin and end, of what is being written
FULL = 1 << 16  # bytes that are left
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
DAY = 24 * 3600  # seconds; the clock of a file server is not as wrong as that


@contextmanager
def atomic_write(path: Path, before: Path | None = None) -> Iterator[IO[bytes]]:
    """A binary file, to write and to read back, that takes the place of `path` when the block ends well; else it goes.

    It is on the disk (fsync) before it is renamed, so that a crash leaves the old file or the new one. The old one
    becomes `before`, where that is given. A full disk or quota is an OSError that names `path`, also where a library
    says something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Nothing of `path` in the name: TensorBoard reads whatever has "tfevents" in it.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=BEGUN, suffix=PARTIAL)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp keeps the file to its owner
        if before and path.exists():
            os.replace(path, before)
        os.replace(temporary, path)
    except BaseException as error:
        full = isinstance(error, RuntimeError) and shutil.disk_usage(path.parent).free < FULL
        Path(temporary).unlink(missing_ok=True)
        said = error.__context__ if isinstance(error, RuntimeError) else error
        number = said.errno if isinstance(said, OSError) else errno.ENOSPC if full else None
        if number and not getattr(said, "filename", None):
            remedy = "; free some, then give the same command again" if number in NO_ROOM else ""
            raise OSError(number, f"{os.strerror(number)}{remedy}", str(path)) from error
        if said is not error and isinstance(said, OSError):
            raise said from error
        raise


def remove_partial(folder: Path) -> None:
    """What processes that were killed while they wrote have left there, and in folders in it."""
    for path in folder.rglob(f"{BEGUN}*{PARTIAL}"):
        path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """The same of a folder that others may be writing into now, and of it alone: what nobody has touched for a day."""
    for path in folder.glob(f"{BEGUN}*{PARTIAL}"):
        with suppress(FileNotFoundError):  # it was being written, and is whole
            if time.time() - path.stat().st_mtime > DAY:
                path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
