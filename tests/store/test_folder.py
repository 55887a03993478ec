"""The folder of a job: what an attempt finds there, and what it leaves."""

from pathlib import Path

import pytest

from prunelab.core.atomic import BEGUN, PARTIAL
from prunelab.store.folder import RunDir
from prunelab.store.signals import Interrupted


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "job")


def test_an_attempt_removes_what_a_killed_one_was_writing(folder: RunDir) -> None:
    partial = folder.path / "checkpoints" / f"{BEGUN}1{PARTIAL}"
    partial.parent.mkdir(parents=True)
    partial.touch()
    with folder.attempt():
        assert not partial.exists()


def test_an_attempt_forgets_an_earlier_failure_and_records_its_own(folder: RunDir) -> None:
    folder.fail("earlier")
    with folder.attempt():
        assert folder.state() == "running"
        assert folder.read("failure.json") is None
    assert folder.state() == "interrupted"
    with pytest.raises(ZeroDivisionError), folder.attempt():
        raise ZeroDivisionError
    assert folder.state() == "failed"


def test_an_interruption_is_no_failure(folder: RunDir) -> None:
    with pytest.raises(Interrupted), folder.attempt():
        raise Interrupted("stopped")
    assert folder.state() == "interrupted"
