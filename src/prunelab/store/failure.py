"""Failure records: why a job has no result."""

import platform
import traceback
from datetime import UTC, datetime
from typing import Any

from prunelab.store.signals import Interrupted

MEMORY = ("OutOfMemoryError", "MemoryError")  # by name: needs no torch
ALLOCATORS = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")  # cuBLAS, cuDNN


class Failed(Exception):
    """A failure of another process, with its message."""


def record(error: BaseException | str) -> dict[str, Any]:
    """`reason` in a line, the traceback, when and where, and whether memory ran out."""
    return {
        "reason": one_line(error),
        "memory": is_memory(error),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "traceback": "" if isinstance(error, str) else "".join(traceback.format_exception(error)),
    }


def one_line(error: BaseException | str) -> str:
    if isinstance(error, str | Failed | Interrupted):
        return " ".join(str(error).split())
    return " ".join(f"{type(error).__name__}: {error}".split())


def is_memory(error: BaseException | str) -> bool:
    """Whether a device or the machine ran out of memory, so that the job may succeed alone."""
    if type(error).__name__ in MEMORY:
        return True
    return isinstance(error, RuntimeError) and any(message in str(error).lower() for message in ALLOCATORS)
