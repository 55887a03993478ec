"""Atomic file writes: a whole file or none."""

import errno
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from prunelab.core.files import atomic as files
from prunelab.core.files.atomic import atomic_write, remove_abandoned, remove_partial


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_write_that_ends_well_takes_the_files_place_readable_for_others(tmp_path: Path) -> None:
    target = tmp_path / "new" / "result.json"
    with atomic_write(target) as file:
        file.write(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert target.stat().st_mode & 0o044
    assert list(target.parent.iterdir()) == [target]


def test_what_was_written_is_on_the_disk_before_it_takes_the_files_place(tmp_path: Path, monkeypatch) -> None:
    done: list[object] = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(os.fstat(handle).st_size))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replaced"), replace(*paths)))
    with atomic_write(tmp_path / "result.json") as file:
        file.write(b"whole")
    assert done == [5, "replaced"]


def test_a_full_disk_is_told_as_such_whatever_a_library_says(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=files.FULL - 1))
    with pytest.raises(OSError, match="No space left on device"), atomic_write(tmp_path / "last.ckpt"):
        raise RuntimeError("unexpected pos 371584 vs 371472")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_file_and_the_remedy(number: int, tmp_path: Path) -> None:
    said = "free some, then give the same command again: '.*/last.ckpt'$"
    with pytest.raises(OSError, match=said), atomic_write(tmp_path / "last.ckpt"):
        raise OSError(number, os.strerror(number))


def test_an_error_that_names_a_file_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="'nowhere'$"), atomic_write(tmp_path / "last.ckpt"):
        Path("nowhere").read_bytes()


def test_a_full_quota_is_told_as_such_whatever_a_library_says(tmp_path: Path) -> None:
    """torch.save writes a RuntimeError of its own over what the file system said."""
    with pytest.raises(OSError, match="File too large: '.*/last.ckpt'"), atomic_write(tmp_path / "last.ckpt") as file:
        try:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        finally:
            file.close()
            raise RuntimeError("unexpected pos 371584 vs 371472")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    kept = [tmp_path / ".lock", tmp_path / "checkpoints" / "last.ckpt"]
    for path in kept:
        path.touch()
    writing = atomic_write(tmp_path / "checkpoints" / "last.ckpt")
    writing.__enter__().write(b"half")  # and no more is heard of it
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    remove_partial(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == kept


def test_what_is_being_written_is_no_file_of_its_kind_by_its_name(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "events.out.tfevents.1.png"):
        [partial] = tmp_path.iterdir()
        assert not any(part in partial.name for part in ("events", "tfevents", "png"))


def test_where_others_may_be_writing_only_what_is_days_old_goes_and_nothing_below(tmp_path: Path) -> None:
    old = time.time() - 2 * files.DAY
    (tmp_path / "job").mkdir()
    abandoned, kept = tmp_path / ".prunelab-1.partial", tmp_path / "summary.md"
    below = tmp_path / "job" / ".prunelab-2.partial"
    for path in (abandoned, below, kept):
        path.touch()
        os.utime(path, (old, old))
    with atomic_write(tmp_path / "summary.csv"):
        remove_abandoned(tmp_path)
    assert sorted(tmp_path.rglob("*.*")) == sorted([below, kept, tmp_path / "summary.csv"])
