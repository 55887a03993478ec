"""Every job below a folder is listed with its state and results, even where files are damaged."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from prunelab.__main__ import main
from prunelab.report.listing import Listing, list_jobs
from prunelab.report.publish import publish_if_any
from prunelab.report.results import NothingToReport
from prunelab.store.lock import held
from prunelab.sweep.outcomes import SweepSummary

Job = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
COST = {"params": 10, "nonzero": 10, "bops": 0}
WHOLE = {
    "schema": 1, "identity": "i", "name": "x", "method": "usp", "rate": 0.5, "seed": 0, "overrides": [],
    "comparable": "c", "asked": "a", "values": {}, "versions": {}, "config": {"epochs": 1}, "labels": {},
    "data": {"fingerprint": "f"}, "device": "cpu", "history": [], "accuracy": 0.7525, "seconds": 1.0,
    "sparsity": {
        "attained": 0.498, "units": 1000, "removed": 498, "zero_weights": 0.498, "collapsed": [], "layers": {},
    },
    "cost": {"dense": COST | {"macs": 12_000_000}, "pruned": COST | {"macs": 3_000_000}},
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def job(root: Path) -> Job:
    """A job's folder with files of these contents."""

    def make(path: str, **files: object) -> Path:
        folder = root / path
        folder.mkdir(parents=True)
        for stem, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / f"{stem}.json").write_text(text)
        return folder

    return make


def states(found: Listing) -> dict[str, str]:
    return {f"{entry.study}/{entry.job}": entry.state for entry in found.entries}


def shown(found: Listing, width: int = 400) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(found)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_jobs_are_listed_by_study_with_their_states(root: Path, job: Job) -> None:
    job("b/rate=1", result=WHOLE)
    job("b/rate=0")
    job("a/rate=3", job={"identity": "i"})
    job("a/rate=2", job={}, failure={"reason": "ValueError: [red] lr"})
    job("a/rate=1", job={}, failure='{"rea')
    busy = job("a/rate=4", result='{"half', failure={"reason": "of before"})
    with held(busy / ".lock"):
        found = list_jobs(root)
    assert list(states(found).items()) == [
        ("a/rate=1", "failed"),
        ("a/rate=2", "failed"),
        ("a/rate=3", "interrupted"),
        ("a/rate=4", "running"),
        ("b/rate=0", "not begun"),
        ("b/rate=1", "finished"),
    ]
    assert [e.reason for e in found.entries] == ["damaged failure.json", "ValueError: [red] lr", "", "", "", ""]


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ('{"schema": 1', "half-written or damaged result.json"),
        ("", "half-written or damaged result.json"),
        ("[]", "result.json: expected an object, not list"),
        ("[" * 200_000, "result.json: it is nested too deeply"),
        ({key: value for key, value in WHOLE.items() if key != "accuracy"}, "result.json has no 'accuracy'"),
        ({"schema": 1}, "result.json has no 'history'"),
        (WHOLE | {"schema": 2}, "schema 2 is newer than 1: update prunelab"),
        (WHOLE | {"accuracy": 1.5}, "accuracy=1.5: expected a fraction"),
    ],
)
def test_a_damaged_result_is_listed_as_such(root: Path, job: Job, result: object, reason: str) -> None:
    job("a/rate=0", result=result, job={})
    job("a/rate=1", result=WHOLE)
    found = list_jobs(root)
    assert states(found) == {"a/rate=0": "damaged", "a/rate=1": "finished"}
    assert reason in found.entries[0].reason
    assert reason in shown(found)


def test_a_finished_job_shows_its_numbers_and_its_age(root: Path, job: Job) -> None:
    then = time.time() - 3 * 3600 - 60
    os.utime(job("demo/prune=usp,rate=0.5", result=WHOLE) / "result.json", (then, then))
    row = shown(list_jobs(root)).splitlines()[-2].split()
    assert row == ["demo", "prune=usp", "rate=0.5", "finished", "75.25", "0.498", "3M", "(25.0%)", "3", "h"]
    assert shown(list_jobs(root)).splitlines()[-1] == "1 jobs: 1 finished"


def test_names_and_reasons_are_whole_in_a_narrow_terminal(root: Path, job: Job) -> None:
    job("demo/prune=usp,rate=0.5,seed=0", failure={"reason": "RuntimeError: " + "x" * 60})
    job("demo/rate=1", result=WHOLE)
    text = shown(list_jobs(root), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("x") == 60
    assert "3M (25.0%)" in text
    assert "…" not in text


def test_what_the_jobs_of_a_study_share_is_said_once_above(root: Path, job: Job) -> None:
    for rate in (0.2, 0.8):
        job(f"demo/prune=usp,rate={rate},seed=0,betas=[0,1]", result=WHOLE)
    job("other/prune=usp,rate=0.2,seed=0", result=WHOLE)
    job("other/rate=0.4", failure={"reason": "ValueError: " + "word " * 20})
    text = shown(list_jobs(root), 80)
    assert "other, rate=0.4: failed: ValueError: word word" in text
    lines = text.splitlines()
    assert lines[0] == "demo: all with prune=usp seed=0 betas=[0,1]"
    rows = [line.split() for line in lines]
    assert [row[1] for row in rows if row[0] == "demo"] == ["rate=0.2", "rate=0.8"]
    assert ["other", "prune=usp", "rate=0.2", "seed=0"] in [row[:4] for row in rows]
    assert {word for row in rows for word in row if "wor" in word} == {"word"}


def test_jobs_are_found_at_any_depth_and_a_study_by_any_name(root: Path, job: Job) -> None:
    job("jpeg/lr=3/rate=0", result=WHOLE)
    job("jpeg/renamed", result=WHOLE)
    job("jpeg/renamed/round=1")  # a job is no study
    job("rate=1/checkpoints").parent.joinpath("job.json").write_text("{}")
    job("rate=1/masks")
    job("figures")
    job(".hidden/rate=0", result=WHOLE)
    assert states(list_jobs(root)) == {
        "jpeg/renamed": "finished",
        "jpeg/lr=3/rate=0": "finished",
        "outputs/rate=1": "interrupted",
    }
    assert states(list_jobs(root / "jpeg/lr=3/rate=0")) == {"lr=3/rate=0": "finished"}
    assert states(list_jobs(root / "jpeg/lr=3")) == {"lr=3/rate=0": "finished"}


def test_links_are_followed_once(root: Path, job: Job, tmp_path: Path) -> None:
    job("a/rate=0", result=WHOLE)
    (root / "a" / "loop").symlink_to(root)
    (root.parent / "far" / "rate=1").mkdir(parents=True)
    (root / "b").symlink_to(tmp_path / "far")
    (root / "c").symlink_to(tmp_path / "nowhere")
    assert states(list_jobs(root)) == {"a/rate=0": "finished", "b/rate=1": "not begun"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_listed(root: Path, job: Job) -> None:
    job("a/rate=0", result=WHOLE)
    (closed := job("b")).chmod(0)
    try:
        assert states(list_jobs(root))["outputs/b"] == "unreadable"
    finally:
        closed.chmod(0o700)


def test_a_folder_that_the_system_refuses_to_read_is_listed(
    root: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job("a/rate=0", result=WHOLE)
    closed, scandir = str(job("b")), os.scandir

    def refuse(path: str) -> object:
        if os.fspath(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = list_jobs(root)
    assert states(found) == {"a/rate=0": "finished", "outputs/b": "unreadable"}
    assert found.entries[1].reason == "Permission denied"


def test_nothing_to_list_is_an_error_in_one_line(root: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["ls", str(root)]) == 2
    assert (
        capsys.readouterr().err
        == f"prunelab ls: {root}: no such folder; give one with studies or jobs in it, such as outputs\n"
    )
    root.mkdir()
    with pytest.raises(NothingToReport, match="no job in this folder or below"):
        list_jobs(root)


def test_a_pipe_gets_a_line_for_each_job_and_torch_is_not_imported(root: Path, job: Job) -> None:
    name = "prune=usp rate=0.5 " + "x" * 150
    job(f"demo/{name.replace(' ', ',')}", result=WHOLE)
    job("demo/rate=0", failure={"reason": "y " * 100})
    code = (
        "import sys; from prunelab.__main__ import main; status = main(['ls', sys.argv[1]])\n"
        "heavy = [m for m in ('torch', 'lightning', 'hydra', 'altair', 'onnx') if m in sys.modules]\n"
        "print(status, heavy, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"
    assert sum(name in line for line in done.stdout.splitlines()) == 1
    assert sum(("y " * 100).strip() in line for line in done.stdout.splitlines()) == 1


def test_no_escape_sequence_of_a_file_reaches_the_terminal(root: Path, job: Job, capsys: Capture) -> None:
    hostile = "\x1b]0;owned\x07\x9b31m\u202e\r\n"
    job(f"study{hostile}/rate=0{hostile}", failure={"reason": f"ValueError: {hostile}"})
    job(f"study{hostile}/rate=1", result=WHOLE | {"method": hostile, "name": hostile, "device": hostile})
    job(f"study{hostile}/rate=2", result=WHOLE | {"accuracy": hostile})
    study = next(root.iterdir())
    assert main(["ls", str(root)]) == 0
    publish_if_any(study)
    publish_if_any(root / hostile)
    Console().print(SweepSummary([(f"job{hostile}", "failed", hostile)]))
    assert main(["ls", str(root / hostile)]) == 2
    out, err = capsys.readouterr()
    assert r"ValueError: \x1b]0;owned\x07\x9b31m\u202e" in out
    for text in (out, err):
        assert [c for c in set(text) if not c.isprintable()] == ["\n"]
