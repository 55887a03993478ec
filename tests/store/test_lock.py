"""A lock for one process at a time: by the kernel on this machine, by its holder's touches on others."""

import errno
import fcntl
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prunelab.store import lock
from prunelab.store.lock import Busy, held, holder, is_held

HOLD = """
import sys, time
from pathlib import Path
from prunelab.store.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of this machine that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "job" / ".lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_held_lock_is_refused_and_named_until_its_holder_is_killed(other, tmp_path: Path) -> None:
    path = tmp_path / "job" / ".lock"
    assert is_held(path)
    with pytest.raises(Busy, match=f"process {other.pid} on"), held(path):
        pass
    other.kill()
    other.wait()
    assert not is_held(path)
    assert holder(path)["pid"] == other.pid  # it did not end by itself
    with held(path):
        assert holder(path)["pid"] == os.getpid()
    assert holder(path) == {}


def test_two_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    with held(tmp_path / ".lock"), pytest.raises(Busy), held(tmp_path / ".lock"):
        pass


def left_by_another_machine(path: Path) -> None:
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))


@pytest.mark.parametrize("shift", [0, -86400, 86400])
def test_a_holder_on_another_machine_is_known_by_its_touches_whatever_the_clocks_say(
    shift: int, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.05)
    path = tmp_path / ".lock"
    left_by_another_machine(path)
    over = threading.Event()

    def beat() -> None:
        for i in range(1000):
            if over.wait(0.02):
                return
            os.utime(path, (time.time() + shift + i, time.time() + shift + i))

    thread = threading.Thread(target=beat)
    thread.start()
    with pytest.raises(Busy, match="process 1 on elsewhere"), held(path):
        pass
    over.set()
    thread.join()
    with held(path):  # it beats no more
        pass


def test_the_holders_name_is_on_the_disk_before_it_works(tmp_path: Path, monkeypatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    with held(tmp_path / ".lock"):
        assert synced == [(tmp_path / ".lock").stat().st_size]


def test_of_two_machines_that_take_it_at_once_the_last_to_write_has_it(tmp_path: Path, monkeypatch) -> None:
    path, write = tmp_path / ".lock", lock._write

    def both(file, owner) -> None:
        write(file, owner)
        left_by_another_machine(path)

    monkeypatch.setattr(lock, "_write", both)
    with pytest.raises(Busy, match="process 1 on elsewhere"), held(path):
        pass
    assert holder(path)["host"] == "elsewhere"  # its name was not wiped


def test_a_lock_is_touched_while_it_is_held(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with held(tmp_path / ".lock"):
        before = (tmp_path / ".lock").stat().st_mtime_ns
        deadline = time.monotonic() + 10
        while (tmp_path / ".lock").stat().st_mtime_ns == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / ".lock").stat().st_mtime_ns > before


def test_checking_the_lock_does_not_prevent_taking_it(tmp_path: Path) -> None:
    path, over = tmp_path / ".lock", threading.Event()
    path.touch()

    def check() -> None:
        while not over.is_set():
            is_held(path)

    thread = threading.Thread(target=check)
    thread.start()
    for _ in range(50):
        with held(path):
            pass
    over.set()
    thread.join()


def test_checking_the_lock_needs_no_writable_file(other, tmp_path: Path, monkeypatch) -> None:
    """As on NFS, where an exclusive lock on a file that is open for reading is an error."""
    flock = fcntl.flock

    def nfs(file, kind: int) -> None:
        if kind & fcntl.LOCK_EX and not file.writable():
            raise OSError(errno.EBADF, "not open for writing")
        flock(file, kind)

    monkeypatch.setattr(fcntl, "flock", nfs)
    assert is_held(tmp_path / "job" / ".lock")
    other.kill()
    other.wait()
    assert not is_held(tmp_path / "job" / ".lock")


def test_without_kernel_locks_touches_show_the_holder(tmp_path: Path, monkeypatch) -> None:
    def none(file, kind: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    monkeypatch.setattr(lock, "BEAT", 0.05)
    path = tmp_path / ".lock"
    assert not is_held(path)
    with held(path):
        assert is_held(path)
        with pytest.raises(Busy, match=f"process {os.getpid()}"), held(path):
            pass
    assert not is_held(path)
    path.write_text(json.dumps({"host": platform.node(), "pid": 1}))  # killed a while ago
    os.utime(path, (0, 0))
    assert not is_held(path)
    with held(path):
        pass


@pytest.mark.parametrize("shift", [-7200, 7200])
def test_a_holder_on_another_machine_is_judged_by_the_clock_of_the_file_system(
    shift: int, tmp_path: Path, monkeypatch
) -> None:
    left_by_another_machine(tmp_path / ".lock")
    tomorrow = time.time() + 86400  # as after a clock was set back
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + shift)
    assert is_held(tmp_path / ".lock")
    for stamped in (0, tomorrow):
        os.utime(tmp_path / ".lock", (stamped, stamped))
        assert not is_held(tmp_path / ".lock")
