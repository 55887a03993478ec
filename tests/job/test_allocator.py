"""glibc keeps what is freed, where it is glibc and the user has not said how it allocates."""

import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from prunelab.job.allocator import VARIABLES, keep_freed_memory

FAULTS = """
import ctypes, resource
import numpy
{first}
def faults():
    blocks = [numpy.ones(4 << 20, numpy.uint8) for _ in range(40)]  # 160 MB
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = [faults() for _ in range(3)][-1]
print(faults() - before)
"""


@pytest.mark.parametrize("given", [None, *VARIABLES])
def test_what_the_user_says_stays(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv(given, "1000")
    asked: list[Any] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=lambda *option: asked.append(option)))
    keep_freed_memory()
    assert asked == ([] if given or sys.platform != "linux" else [(-3, 32 << 20), (-1, 1 << 30)])
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    keep_freed_memory()  # as musl, which has no such options


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has these options")
def test_pages_of_freed_blocks_are_not_faulted_in_again() -> None:
    env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    keep = "from prunelab.job.allocator import keep_freed_memory; keep_freed_memory()"
    first, kept = (
        int(
            subprocess.run(
                [sys.executable, "-c", FAULTS.format(first=line)], capture_output=True, check=True, env=env
            ).stdout
        )
        for line in ("", keep)
    )
    assert kept < 100 < first
