"""Shared dense pretraining: the bits of training in the job, trained once, taken over from a killed job."""

import json
import multiprocessing
import os
import re
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from compose import job_from

from prunelab.job.run import resolve_auto
from prunelab.job.sharing.dense_checkpoint import train_once
from prunelab.lit.classifier import Classifier
from prunelab.store import own_code

LATER = ("prune=l2_filter", "prune/allocation=explicit", "+rates={*:0.3}", "round_to=4", "+distill=logits")


@pytest.mark.parametrize("overrides", [("prune=magnitude_global",), ("prune=lottery", "rewind=1ep"), ("prune=reinit",)])
def test_shared_pretraining_gives_the_bits_of_training_in_the_job(
    overrides: tuple[str, ...], job, tmp_path: Path
) -> None:
    overrides = (*overrides, "rate=0.36", "epochs=2", "model=narrow_dropout")
    single = job(*overrides, folder=tmp_path / "single")
    auto = job(*overrides, "pretrained=auto", folder=tmp_path / "auto")
    assert auto["identity"] == single["identity"]
    assert [e["test_loss"] for e in auto["history"]] == [e["test_loss"] for e in single["history"]]
    assert [{**r} for r in auto["rounds"]] == single["rounds"]
    assert all(torch.equal(t, single["state_dict"][name]) for name, t in auto["state_dict"].items())


def test_pretraining_by_code_that_has_changed_since_is_made_anew(job, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = (
        "from torch import nn\ndef net(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes))\n"
    )
    command = ["prune=finetune", "rate=0.5", "epochs=1", "model._target_=edited.net", "pretrained=auto"]
    ends = []
    for number, text in enumerate((code, code, code.replace("Flatten()", "Flatten(), nn.Tanh()"))):
        (tmp_path / "edited.py").write_text(text)
        own_code._content.cache_clear()  # as in a process of its own
        sys.modules.pop("edited", None)
        ends.append(job(*command, folder=tmp_path / f"{number}")["history"][-1]["test_loss"])
    assert len(list((tmp_path / "parents").iterdir())) == 2
    assert ends[0] == ends[1] != ends[2]


def test_pretraining_of_another_prunelab_is_taken_and_told_of(job, tmp_path: Path, caplog) -> None:
    asked = ["prune=finetune", "pretrained=auto", "epochs=1"]
    job(*asked, "rate=0.5", folder=tmp_path / "first")
    [dense] = (tmp_path / "parents").glob("*/job.json")
    before = {"versions": {"prunelab": "0.0.1", "commit": "0123abc"}}
    dense.write_text(json.dumps(json.loads(dense.read_text()) | before))
    trained = (dense.parent / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert "changed" not in caplog.text
    job(*asked, "rate=0.9", folder=tmp_path / "second")
    assert re.search(r"prunelab \(then (0123abc|0\.0\.1), now \S+\): changed since the job in ", caplog.text)
    assert f"{dense.parent} last ran; another parents= trains it anew" in caplog.text
    assert [path.stat().st_mtime_ns for path in (tmp_path / "parents").glob("*/checkpoints/last.ckpt")] == [trained]


def test_jobs_that_differ_in_method_and_rate_share_one_pretraining(job, tmp_path: Path, monkeypatch) -> None:
    steps = []
    train = Classifier.training_step
    monkeypatch.setattr(
        Classifier, "training_step", lambda self, *args: (steps.append(self.global_step), train(self, *args))[1]
    )
    for i, overrides in enumerate([("prune=finetune", "rate=0.5"), ("prune=weight_rewind", "rate=0.9")]):
        job(*overrides, "pretrained=auto", "epochs=1", folder=tmp_path / str(i))
    assert len(steps) == 7 + 2 * 7
    assert len(list((tmp_path / "parents").iterdir())) == 1


def test_pretraining_is_shared_by_jobs_with_the_same_number_of_threads(job, tmp_path: Path, monkeypatch) -> None:
    asked = ("prune=finetune", "rate=0.5", "pretrained=auto", "epochs=1")
    job(*asked, folder=tmp_path / "first")
    threads = torch.get_num_threads() + 1
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    job(*asked, folder=tmp_path / "second")
    assert len(list((tmp_path / "parents").iterdir())) == 2


def test_what_affects_the_pretraining_makes_another_and_what_does_not_shares_it(composed) -> None:
    def pretraining(*overrides: str) -> str:
        dense = job_from(composed("prune=finetune", "rate=0.5", "pretrained=auto", *overrides)).dense_pretraining()
        return dense.settled(resolve_auto(dense, SimpleNamespace(fingerprint="", train=range(140))), "").identity

    one = pretraining()
    budget = ("prune=l2_filter", "budget=macs")
    later = (("rate=0.9",), ("optim.finetune=0.1",), ("rounds=2",), LATER)
    for same in (("prune=lr_rewind",), budget, ("logger=csv",), *later):
        assert pretraining(*same) == one, same
    others = ["seed=1", "epochs=1", "optim=adamw", "augment.pad=3", "data.val=30", "rewind=1ep"]
    assert len({one, *map(pretraining, others)}) == 7


def test_pretraining_that_lost_its_checkpoint_is_repeated(job, tmp_path: Path) -> None:
    overrides = ("prune=finetune", "rate=0.5", "pretrained=auto", "epochs=1")
    first = job(*overrides, folder=tmp_path / "first")
    next((tmp_path / "parents").glob("*/checkpoints/last.ckpt")).unlink()
    again = job(*overrides, folder=tmp_path / "again")
    assert again["accuracy"] == first["accuracy"]


def test_an_unwritable_folder_for_dense_checkpoints_is_refused_first(job, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError, match="results cannot be written"):
        job("prune=finetune", "rate=0.5", "pretrained=auto", f"parents={tmp_path}/file")


def test_killed_pretraining_resumes_from_its_last_epoch(job, tmp_path: Path, monkeypatch) -> None:
    overrides = ("prune=finetune", "rate=0.5", "pretrained=auto")
    whole = job(*overrides, folder=tmp_path / "whole")
    (tmp_path / "parents").rename(tmp_path / "whole-parents")
    train, steps = Classifier.training_step, []

    def dies(self, *args):
        steps.append(self.global_step)
        if len(steps) == 12:
            raise KeyError("killed")
        return train(self, *args)

    monkeypatch.setattr(Classifier, "training_step", dies)
    with pytest.raises(KeyError, match="killed"):
        job(*overrides, folder=tmp_path / "again")
    resumed = job(*overrides, folder=tmp_path / "again")
    assert steps[12] == 7
    assert all(torch.equal(t, whole["state_dict"][name]) for name, t in resumed["state_dict"].items())


def test_at_rate_zero_the_dense_checkpoint_is_the_result(job, tmp_path: Path) -> None:
    dense = job("prune=none", folder=tmp_path / "dense")
    zero = job("prune=lottery", "rate=0", "pretrained=auto", folder=tmp_path / "zero")
    assert zero["accuracy"] == dense["accuracy"]
    assert all(torch.equal(t, dense["state_dict"][name]) for name, t in zero["state_dict"].items())
    assert (tmp_path / "zero" / "job.json").exists()


def _train(folder: Path, name: str, seconds: float) -> None:
    def work() -> None:
        (folder / f"began-{name}").touch()
        time.sleep(seconds)
        (folder / "finished").touch()

    train_once(folder, (folder / "finished").exists, work)


def _begin(folder: Path, name: str, seconds: float) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=_train, args=(folder, name, seconds))
    process.start()
    return process


def _wait_for(path: Path) -> None:
    for _ in range(500):
        if path.exists():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_of_jobs_that_start_together_one_trains_and_the_others_wait(tmp_path: Path) -> None:
    processes = [_begin(tmp_path, str(i), 0.3) for i in range(4)]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert len(list(tmp_path.glob("began-*"))) == 1
    assert (tmp_path / "finished").exists()


def test_what_a_killed_job_had_half_written_into_the_store_is_removed(tmp_path: Path) -> None:
    partial = tmp_path / "checkpoints" / ".prunelab-x.partial"
    partial.parent.mkdir()
    partial.touch()
    train_once(tmp_path, lambda: False, lambda: None)
    assert not partial.exists()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_the_lock_of_a_dead_trainer_is_taken_over(tmp_path: Path) -> None:
    first = _begin(tmp_path, "first", 60)
    _wait_for(tmp_path / "began-first")
    second = _begin(tmp_path, "second", 0.0)
    time.sleep(0.3)
    assert not (tmp_path / "began-second").exists()
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    second.join(30)
    assert second.exitcode == 0
    assert (tmp_path / "began-second").exists()


def _other_rank(folder: Path, job: str) -> None:
    train_once(folder, (folder / "finished").exists, (folder / f"joined-{job}").touch, job, rank=1)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_other_ranks_train_with_rank_0_of_their_job_and_wait_while_other_jobs_train(tmp_path: Path) -> None:
    """They take no lock, and a lock file that a killed job left does not count."""
    (tmp_path / ".lock").write_text("stale")
    begin = multiprocessing.get_context("fork").Process
    waiting = [begin(target=_other_rank, args=(tmp_path, job)) for job in ("mine", "theirs", "stale")]
    for process in waiting:
        process.start()
    time.sleep(0.5)
    assert not list(tmp_path.glob("joined-*"))
    train_once(tmp_path, lambda: False, lambda: _wait_for(tmp_path / "joined-mine"), "mine")
    time.sleep(0.5)
    (tmp_path / "finished").touch()
    for process in waiting:
        process.join(30)
        assert process.exitcode == 0
    assert [path.name for path in tmp_path.glob("joined-*")] == ["joined-mine"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("prune=usp", "pretrained=auto"), "pretrained=auto: this method prunes from scratch"),
        (("prune=magnitude_global", "prune/criterion=movement", "pretrained=auto"), "watches the dense training"),
        (("prune=usp", "retrain=lr_rewind"), "retrain=lr_rewind: this method does not prune in rounds"),
        (("prune=usp", "retrain=finetune"), "retrain=finetune: this method does not prune in rounds"),
        (("rate=0", "prune=none", "retrain=finetune"), "retrain=finetune: this method does not prune in rounds"),
        (("prune=reinit", "retrain=finetune"), "prune.rewind has settings, but neither prune= nor retrain= adds this"),
        (("prune=binary", "prune/schedule=rounds", "pretrained=auto"), "Binarize acts on the dense training too"),
        (
            ("prune=finetune", "prune.pruning.pruner.schedule.start=1ep", "pretrained=auto"),
            "first pruning is at step 7, the dense training ends at step 21",
        ),
        (("prune=lottery", "prune/schedule=cubic"), "take prune/schedule=rounds, or ~retrain"),
        (("prune=lottery", "prune.rewind.to=1ep", "pretrained=auto"), "prune.rewind.to=1ep is not rewind=0"),
        (("prune=shuffle", "prune/granularity=nm"), "control=shuffle would break N:M groups"),
        (("prune=snip", "prune/criterion=movement"), "seen none of it at step 0: prune later"),
        (("prune=lottery", "rewind=9ep"), r"rewind='9ep' is step 63, but the run ends at step 21 \(3 epochs\)"),
        (("prune=lottery", "rewind=20it"), "rewind='20it' leaves 1 steps"),
        (("prune=nm", "prune.pruning.pruner.granularity.indivisible=refuse"), r"conv1.weight \(3 inputs\)"),
        (("prune=nm", "rate=0.6"), "rate=0.6: groups of m=4 weights allow 0.25, 0.5, 0.75"),
        (("prune=snip", "optim.batch_size=60"), "asks for 10 batches of 60 images, there are 140"),
    ],
)
def test_impossible_settings_are_refused_before_any_training(overrides, message: str, job, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        job("rate=0.5", *overrides)
    assert {path.name for path in (tmp_path / "job").glob("*")} <= {".lock", "failure.json"}
    assert not (tmp_path / "parents").exists()


def test_weights_of_a_file_can_be_fine_tuned_and_their_rates_rewound_but_not_the_weights(job, tmp_path: Path) -> None:
    dense = job("prune=none", folder=tmp_path / "dense")
    pretrained = f"pretrained={tmp_path / 'dense'}"
    tuned = job("prune=finetune", "rate=0.5", pretrained, folder=tmp_path / "tuned")
    assert [e["sparsity"] for e in tuned["history"]] == pytest.approx([0.5] * 3, abs=1e-5)
    assert {e["lr"] for e in tuned["history"]} == {0.01 * 0.1}
    again = job("prune=lr_rewind", "rate=0.5", pretrained, folder=tmp_path / "again")
    assert [e["lr"] for e in again["history"]] == [e["lr"] for e in dense["history"]]
    for overrides in (("prune=weight_rewind",), ("prune=lr_rewind", "rewind=1ep")):
        with pytest.raises(ValueError, match="has no snapshot of step .*: use pretrained=auto"):
            job(*overrides, "rate=0.5", pretrained, folder=tmp_path / "refused")
