"""A change of the user's own code is seen, without importing it."""

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from prunelab.store import own_code as own_code_module
from prunelab.store.folder import RunDir
from prunelab.store.identity import content
from prunelab.store.job import Job
from prunelab.store.own_code import own_code

WHOLE = Path(__file__).with_name("result-0.1.0.json")
PARTS = {"model._target_": "own_nets.deep.Net", "prune.pruning.pruner.criterion._target_": "own_score.Score"}


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Modules that end whoever imports them, as a process that has just begun finds them."""
    for name in ("own_nets/__init__.py", "own_nets/deep.py", "own_score.py", "own_space/net.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"raise SystemExit  # {name}")
    monkeypatch.syspath_prepend(tmp_path)
    own_code_module._content.cache_clear()
    yield tmp_path
    own_code_module._content.cache_clear()


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("own_nets.deep.Net", "own_nets/deep.py"),
        ("own_nets.deep.Net.of", "own_nets/deep.py"),
        ("own_nets.Net", "own_nets/__init__.py"),
        ("own_score.Score", "own_score.py"),
        ("own_space.net.Net", "own_space/net.py"),  # a folder without __init__.py
    ],
)
def test_each_class_is_known_by_the_content_of_its_module(code: Path, target: str, file: str) -> None:
    assert own_code({"model._target_": target}) == {target: content(code / file)}
    assert own_code({"transforms": [{"_target_": target}], "name": "own_score.Score"}) == {target: content(code / file)}
    assert not {"own_nets", "own_score", "own_space"} & sys.modules.keys()


NOT_OWN = (
    "", ".", "..x", "\0", "nowhere.Net", "own nets.Net", "__main__.Net", "sys.exit", "functools.partial",
    "torch.optim.SGD", "prunelab.models.vgg.vgg11",
)  # fmt: skip


@pytest.mark.parametrize("target", NOT_OWN)
def test_what_is_no_own_file_has_no_content(target: str) -> None:
    assert own_code({"model._target_": target}) == {}


@pytest.mark.parametrize("part", ["a" * 300, str(WHOLE.parents[1] / "conftest")])
def test_what_no_file_or_module_can_be_called_is_not_looked_for(part: str) -> None:
    assert own_code({"model._target_": f"numpy.{part}"}) == {}


def test_a_change_is_seen_by_the_next_process_and_older_jobs_are_taken_as_they_are(code: Path) -> None:
    job = replace(read_job(), values=PARTS).settled({}, "")
    assert job.changed(job.versions) == replace(job, versions={}).changed(job.versions) == []
    (code / "own_nets/deep.py").write_text("# edited")
    assert job.changed(job.versions) == []  # this one has imported it
    own_code_module._content.cache_clear()
    assert job.changed(job.versions) == ["own_nets.deep.Net"]
    assert replace(job, versions={}).changed(job.versions) == []


def test_jobs_of_one_table_share_the_code_of_the_network_not_that_of_methods(code: Path) -> None:
    job = replace(read_job(), values=PARTS).settled({}, "")
    assert job.shared_code == {"code of own_nets.deep.Net": content(code / "own_nets/deep.py")}
    assert job.table == (job.comparable, f"code of own_nets.deep.Net {content(code / 'own_nets/deep.py')}")
    assert replace(job, versions={}).table == (job.comparable, "code of own_nets.deep.Net not recorded")


def test_a_job_goes_on_with_other_code_and_says_so(
    code: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = read_job()
    job = replace(old, values=old.values | PARTS).settled({}, "")
    assert job.versions.items() >= own_code(PARTS).items()
    RunDir(tmp_path).write_job(job)
    with caplog.at_level(logging.WARNING):
        RunDir(tmp_path).refuse_other(job)
        assert not caplog.records
        (code / "own_score.py").write_text("# edited")
        own_code_module._content.cache_clear()
        RunDir(tmp_path).refuse_other(job)
    assert f"own_score.Score: changed since the job in {tmp_path} last ran; rerun=true" in caplog.text


def test_a_job_that_another_prunelab_has_begun_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = replace(read_job(), versions={"prunelab": "0.2.0", "commit": "4567def"})
    with caplog.at_level(logging.WARNING):
        for then in ({}, now.versions, {"prunelab": "0.1.0", "commit": "0123abc"}):
            RunDir(tmp_path).write_job(replace(now, versions=then))
            RunDir(tmp_path).refuse_other(now)
    assert [record.message for record in caplog.records] == [
        f"prunelab (then 0123abc, now 4567def): changed since the job in {tmp_path} last ran; rerun=true begins it anew"
    ]


def read_job() -> Job:
    return Job.from_json(json.loads(WHOLE.read_text()))
