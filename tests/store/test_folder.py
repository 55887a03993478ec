"""The folder of a job: what an attempt finds and leaves, and damaged files, which cost at most this job."""

import shutil
import signal
import time
from pathlib import Path

import pytest

from prunelab.core.files.atomic import BEGUN, PARTIAL
from prunelab.store.failure import Failed
from prunelab.store.folder import RunDir
from prunelab.store.lock import held, holder, is_held
from prunelab.store.signals import Interrupted, stoppable

WHOLE = Path(__file__).with_name("result-0.1.0.json")
DAMAGED = ["", "{", "5", "[]", "null", '{"accuracy": 0.5}', '{"a":' * 200_000, "[" * 200_000, "\xff", None]


@pytest.fixture(params=DAMAGED, ids=lambda content: str(content)[:9])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file, or in its place a folder."""
    path = tmp_path / "damaged"
    path.mkdir() if request.param is None else path.write_bytes(request.param.encode("latin-1"))
    return path


@pytest.mark.parametrize("name", ["result.json", "job.json", ".lock"])
def test_a_damaged_file_is_as_good_as_none(name: str, damaged: Path, tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "job")
    folder.path.mkdir()
    damaged.rename(folder.path / name)
    if name == "result.json":
        (folder.path / "job.json").touch()
    assert (folder.state(), folder.job(), folder.result(), folder.failure()) == ("interrupted", None, None, None)


def test_a_damaged_failure_is_none_or_gives_no_reason(damaged: Path, tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    damaged.rename(tmp_path / "failure.json")
    assert folder.failure() in (None, "failure.json does not say why")
    assert folder.state() == ("failed" if folder.failure() else "not begun")


def test_a_damaged_lock_is_free(damaged: Path) -> None:
    assert not is_held(damaged)
    assert isinstance(holder(damaged), dict)
    if damaged.is_file():
        with held(damaged):
            assert is_held(damaged)


@pytest.mark.parametrize("name", ["job.json", "result.json", "model.safetensors", "failure.json", ".lock"])
def test_a_folder_in_the_place_of_a_file_is_named_before_the_job_begins(name: str, tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "job")
    (folder.path / name).mkdir(parents=True)
    with pytest.raises(OSError, match=name), folder.attempt():
        pytest.fail("began")


def test_only_a_whole_result_is_finished(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    shutil.copy(WHOLE, tmp_path / "result.json")
    assert folder.state() == "finished"
    text = WHOLE.read_text()
    (tmp_path / "result.json").write_text(text.replace('"accuracy"', '"accuracies"'))
    assert folder.state() == "not begun"


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
        assert folder.failure() is None
    assert folder.state() == "interrupted"
    with pytest.raises(ZeroDivisionError), folder.attempt():
        raise ZeroDivisionError
    assert folder.state() == "failed"


@pytest.mark.parametrize("first", [0, 1])
def test_the_rank_that_failed_first_says_why(first: int, folder: RunDir) -> None:
    with folder.attempt():
        for rank, reason in ((first, "no licence"), (1 - first, "connection closed by peer")):
            folder.fail(reason, rank)
            time.sleep(0.02)  # the clock of files is coarse
    assert (folder.state(), folder.failure()) == ("failed", "no licence")
    with pytest.raises(Failed), folder.attempt(rank=1):
        raise Failed("and rank 1 writes none but its own")
    assert folder.failure() == ("no licence" if first == 0 else "connection closed by peer")
    with folder.attempt():
        assert folder.failure() is None


def test_code_that_exits_has_failed_unless_it_was_asked_to_stop(folder: RunDir) -> None:
    with pytest.raises(Failed, match="SystemExit: no licence"), folder.attempt():
        raise SystemExit("no licence")
    assert folder.failure() == "SystemExit: no licence"
    with stoppable() as stop:
        stop.request(signal.SIGUSR1)
        with pytest.raises(SystemExit), folder.attempt():
            raise SystemExit(1)
    assert folder.state() == "interrupted"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("seed=0", "the same command"),
        ("seed=0,rerun=20261121-120000", "the same command with rerun=20261121-120000"),
        ("seed=_,rerun=20261121-120000~0123abcd", "the same command with rerun=20261121-120000"),
    ],
)
def test_what_resumes_a_rerun_names_its_time(name: str, command: str, tmp_path: Path) -> None:
    folder = RunDir(tmp_path / name)
    with folder.attempt():
        assert folder.future("running") == "another process works on it"
    assert folder.future(folder.state()) == f"{command} resumes from its checkpoint"


def test_an_interruption_is_no_failure(folder: RunDir) -> None:
    with pytest.raises(Interrupted), folder.attempt():
        raise Interrupted("stopped")
    assert folder.state() == "interrupted"
