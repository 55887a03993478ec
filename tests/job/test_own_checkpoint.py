"""A job resumes from its own checkpoints alone."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from compose import job_from
from killed import killed_at

from prunelab.job.own_checkpoint import RecordJob, trained_alike
from prunelab.lit.classifier import Classifier
from prunelab.report.provenance import facts
from prunelab.store.identity import versions
from prunelab.store.result import read

Job = Callable[..., dict[str, Any]]
USP = ["prune=usp", "rate=0.5", "epochs=2"]


def unfinished(job: Job, folder: Path, *overrides: str) -> Path:
    """The checkpoint, after one epoch, of a job that dies in the second."""
    with killed_at(9):
        job(*overrides, folder=folder)
    return folder / "checkpoints" / "last.ckpt"


def test_a_checkpoint_of_another_seed_is_refused_and_stays_where_it_is(job: Job, tmp_path: Path) -> None:
    zero = unfinished(job, tmp_path / "zero", *USP, "seed=0")
    one = unfinished(job, tmp_path / "one", *USP, "seed=1")
    own = one.read_bytes()
    shutil.copy(zero, one)
    with pytest.raises(ValueError, match=r"last\.ckpt is of another job, with other .*\bseed\b.*: move it"):
        job(*USP, "seed=1", folder=tmp_path / "one")
    assert one.read_bytes() == zero.read_bytes()
    one.write_bytes(own)
    resumed = job(*USP, "seed=1", folder=tmp_path / "one")["state_dict"]
    whole = job(*USP, "seed=1", folder=tmp_path / "whole")["state_dict"]
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_a_checkpoint_that_does_not_name_its_job_resumes(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of 0.1.0 do not."""
    path = unfinished(job, tmp_path / "job", *USP)
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["callbacks"]["RecordJob"]
    torch.save(checkpoint, path)
    seen: list[int] = []
    train = Classifier.training_step
    monkeypatch.setattr(
        Classifier, "training_step", lambda self, *args: seen.append(self.global_step) or train(self, *args)
    )
    job(*USP)
    assert seen == list(range(7, 14))


def test_a_shared_dense_checkpoint_of_another_job_is_refused(job: Job, tmp_path: Path) -> None:
    finetune = ["prune=finetune", "rate=0.5", "epochs=1", "pretrained=auto"]
    for seed in (0, 1):
        job(*finetune, f"seed={seed}", folder=tmp_path / str(seed))
    first, second = sorted((tmp_path / "parents").glob("*/checkpoints/last.ckpt"))
    content = first.read_bytes()
    shutil.copy(second, first)
    second.write_bytes(content)
    with pytest.raises(ValueError, match=r"parents/\w+/checkpoints/last\.ckpt is of another job, with other .*seed"):
        job(*finetune, "seed=0", folder=tmp_path / "again")


def test_a_result_names_the_versions_of_its_first_steps_too(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A study of a week outlives an update of torch."""
    now = versions()
    monkeypatch.setattr("prunelab.store.job.versions", lambda: now | {"commit": "aaaa", "torch": "2.0"})
    unfinished(job, tmp_path / "job", *USP)
    monkeypatch.setattr("prunelab.store.job.versions", lambda: now | {"commit": "bbbb"})
    job(*USP, folder=tmp_path / "job")
    begun = f"begun with torch=2.0 commit=aaaa, goes on with torch={now['torch']} commit=bbbb"
    assert begun in caplog.text
    raw = json.loads((tmp_path / "job" / "result.json").read_text())
    threads = {"device": "cpu", "threads": torch.get_num_threads()}
    assert raw["begun_with"] == [threads | raw["versions"] | {"commit": "aaaa", "torch": "2.0"}]
    assert read(tmp_path / "job").to_json() == raw
    assert raw["versions"]["commit"] == "bbbb"
    last, first = facts([read(tmp_path / "job")], [])["versions"]
    assert "commit bbbb" in last
    assert f"device cpu, threads {torch.get_num_threads()}, " in first
    assert "torch 2.0, " in first
    assert "commit aaaa" in first


def test_a_job_that_is_resumed_with_the_same_versions_has_one_set(
    job: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unfinished(job, tmp_path / "job", *USP)
    job(*USP, folder=tmp_path / "job")
    result = read(tmp_path / "job")
    assert "begun_with" not in result.to_json()
    assert len(facts([result], [])["versions"]) == 1
    assert "begun with" not in caplog.text


def test_a_training_that_another_version_began_is_not_shared(composed) -> None:
    job = replace(job_from(composed("prune=usp")), versions={"commit": "bbbb"})
    recorder = RecordJob(job)
    recorder.load_state_dict(RecordJob(replace(job, versions={"commit": "aaaa"})).state_dict())
    assert not trained_alike({"callbacks": {"RecordJob": recorder.state_dict()}}, job)


def test_what_a_checkpoint_does_not_say_of_its_arithmetic_stays_unknown(composed) -> None:
    """One of an earlier version, of whatever threads: no job may share what comes of it."""
    job = job_from(composed("prune=usp"))
    recorder = RecordJob(job)
    assert trained_alike({"callbacks": {"RecordJob": recorder.state_dict()}}, job)
    recorder.load_state_dict({"identity": job.identity, "values": {}})
    assert not trained_alike({"callbacks": {"RecordJob": recorder.state_dict()}}, job)


def test_earlier_versions_stay_in_their_order(composed) -> None:
    """The first attempt's first, where the last has the same again."""
    a, b = (replace(job_from(composed("prune=usp")), versions={"commit": commit}) for commit in ("aaaa", "bbbb"))
    used: list[dict[str, Any]] = []
    for job in (a, b, a, a):
        recorder = RecordJob(job)
        if used:
            recorder.load_state_dict({"trained_with": used})
        recorder.on_train_start(None, None)
        used = recorder.state_dict()["trained_with"]
    assert [versions["commit"] for versions in used] == ["aaaa", "bbbb", "aaaa"]
    assert [versions["commit"] for versions in recorder.before] == ["aaaa", "bbbb"]


def test_what_only_one_of_two_attempts_says_is_no_difference(composed, caplog: pytest.LogCaptureFixture) -> None:
    """Dense pretraining has no criterion; a later version may record more, or less."""
    job = replace(job_from(composed("prune=usp")), versions={"commit": "aaaa"})
    recorder = RecordJob(replace(job, versions={"commit": "aaaa", "mine.Criterion": "0123"}))
    for less_or_more in ({}, {"other": "1"}):
        recorder.load_state_dict(RecordJob(replace(job, versions=job.versions | less_or_more)).state_dict())
        recorder.on_train_start(None, None)
        assert recorder.before == []
    assert "begun with" not in caplog.text
    unknown = {"identity": job.identity, "values": {}}
    recorder.load_state_dict(unknown)
    recorder.on_train_start(None, None)
    assert "begun with" not in caplog.text
    assert recorder.before == [{"versions": "unknown"}]


def test_a_network_that_is_measured_again_was_trained_with_what_trained_it(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = versions()
    monkeypatch.setattr("prunelab.store.job.versions", lambda: now | {"commit": "aaaa"})
    job(*USP)
    (tmp_path / "job" / "result.json").unlink()
    monkeypatch.setattr("prunelab.store.job.versions", lambda: now | {"commit": "bbbb"})
    job(*USP)
    assert "begun with" not in caplog.text  # no step follows
    result = read(tmp_path / "job")
    assert result.job.versions["commit"] == "bbbb"
    assert [used["commit"] for used in result.begun_with] == ["aaaa"]
    saved = torch.load(tmp_path / "job" / "checkpoints" / "last.ckpt", weights_only=True)
    assert [used["commit"] for used in saved["callbacks"]["RecordJob"]["trained_with"]] == ["aaaa"]


def test_a_report_says_where_earlier_versions_are_unknown(job: Job, tmp_path: Path) -> None:
    path = unfinished(job, tmp_path / "job", *USP)
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["callbacks"]["RecordJob"]["trained_with"]
    torch.save(checkpoint, path)
    job(*USP)
    assert facts([read(tmp_path / "job")], [])["versions"][1] == "versions unknown"
