"""A change of the user's own code is seen, without importing it."""

import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from prunelab.store.folder import RunDir
from prunelab.store.identity import content
from prunelab.store.own_code import changed_since, own_code, own_network
from prunelab.store.result import read

WHOLE = Path(__file__).with_name("result-0.1.0.json")
PARTS = {"model._target_": "own_nets.deep.Net", "prune.pruning.pruner.criterion._target_": "own_score.Score"}


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package and a module that end whoever imports them."""
    for name in ("own_nets/__init__.py", "own_nets/deep.py", "own_score.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"raise SystemExit  # {name}")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_each_class_is_known_by_the_content_of_its_module(code: Path) -> None:
    values = PARTS | {"optim.optimizer._target_": "torch.optim.SGD", "model.width": "own_score.Score"}
    files = {name: content(code / name) for name in ("own_nets/deep.py", "own_score.py")}
    assert own_code(values) == files
    assert "own_nets" not in sys.modules
    assert own_code({"model._target_": "own_nets.Net"}) == {
        "own_nets/__init__.py": content(code / "own_nets/__init__.py")
    }


@pytest.mark.parametrize("target", ["", ".", "nowhere.Net", "..x", "\0", "own nets.Net", "sys.exit"])
def test_what_is_no_file_has_no_content(target: str) -> None:
    assert own_code({"model._target_": target}) == {}


def test_a_change_is_seen_and_older_jobs_are_taken_as_they_are(code: Path) -> None:
    before = own_code(PARTS)
    assert changed_since(PARTS, before) == changed_since(PARTS, {}) == []
    (code / "own_nets/deep.py").write_text("# edited")
    assert changed_since(PARTS, before) == ["own_nets/deep.py"]


def test_jobs_of_one_table_share_the_code_of_the_network_not_that_of_methods(code: Path) -> None:
    versions = own_code(PARTS) | {"torch": "2.9"}
    assert own_network(PARTS, versions) == {"own_nets/deep.py": content(code / "own_nets/deep.py")}


def test_a_job_goes_on_with_other_code_and_says_so(
    code: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "result.json").write_bytes(WHOLE.read_bytes())
    old = read(tmp_path).job
    job = replace(old, values=old.values | PARTS).settled({}, "")
    assert job.versions.items() >= own_code(PARTS).items()
    RunDir(tmp_path).write_job(job)
    with caplog.at_level(logging.WARNING):
        RunDir(tmp_path).refuse_other(job)
        assert not caplog.records
        (code / "own_score.py").write_text("# edited")
        RunDir(tmp_path).refuse_other(job)
    assert "own_score.py: changed since this job began; rerun=true" in caplog.text
