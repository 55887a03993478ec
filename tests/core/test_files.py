"""Whole or not at all."""

from pathlib import Path

import pytest

from prunelab.core.files import written_whole


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), written_whole(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_write_that_ends_well_takes_the_files_place_readable_for_others(tmp_path: Path) -> None:
    target = tmp_path / "new" / "result.json"
    with written_whole(target) as file:
        file.write(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert target.stat().st_mode & 0o044
    assert list(target.parent.iterdir()) == [target]
