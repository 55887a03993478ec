"""At rate 0 the training of one job serves all methods that train from scratch."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from elsewhere import trained_elsewhere
from killed import killed_at
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from prunelab.job import run as job_module
from prunelab.lit.classifier import Classifier
from prunelab.store.lock import held
from prunelab.store.signals import Interrupted

SHARED = ("model=resnet8", "rate=0", "epochs=2", "rerun=false")
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def shared(job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a job of rate 0 in the folder of that name; one whose training may be shared, whatever the checkout."""
    monkeypatch.setattr("prunelab.store.job.versions", lambda: {"torch": "2", "commit": "0123456789ab"})
    return lambda name, *overrides: job(*SHARED, *overrides, folder=tmp_path / name)


@pytest.fixture
def trains_no_more(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(Classifier, "training_step", lambda *_: pytest.fail("it trained again"))


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if "seconds" not in tag
    }


def without_times(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if "seconds" not in key} for row in history]


def record(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "parents" / "rate0").glob("*.json")
    return path


def test_other_methods_take_the_training_of_the_first_with_its_bits(shared, trains_no_more, tmp_path: Path) -> None:
    asked = {method: (f"prune={method}", "logger=tensorboard") for method in ("sp", "lottery", "rigl")}
    alone = {method: shared(f"{method}-alone", *asked[method], "rerun=true") for method in asked}
    dense = shared("none", "prune=none")
    trains_no_more()
    for method, overrides in asked.items():
        taken = shared(method, *overrides)
        assert taken["trained_in"] == str(tmp_path / "none")
        assert all(torch.equal(t, alone[method]["state_dict"][name]) for name, t in taken["state_dict"].items())
        assert without_times(taken["history"]) == without_times(alone[method]["history"])
        assert [row["seconds"] for row in taken["history"]] == [row["seconds"] for row in dense["history"]]
        own = {"cost", "seconds", "peak_memory", "history", "state_dict", "checkpoint", "config", "overrides", "asked"}
        assert all(taken[key] == alone[method][key] for key in alone[method].keys() - own)
        assert scalars(tmp_path / method) == scalars(tmp_path / f"{method}-alone")
        # A second file of the logger purges the first; in the same second TensorBoard may read it before that.
        assert len(list((tmp_path / method).glob("events.out.tfevents.*"))) == len(["logger", "hparams"])
    assert "trained_in" not in dense


def test_an_analysis_looks_at_the_network_that_another_job_has_trained(shared, trains_no_more) -> None:
    few = ("prune=scan", "prune.pruning.rates=2", "prune.pruning.zoom=1", "prune.pruning.batches=0")
    alone = shared("alone", *few, "rerun=true")
    shared("none", "prune=none")
    trains_no_more()
    assert shared("scan", *few)["scan"] | {"seconds": 0} == alone["scan"] | {"seconds": 0}


def test_a_training_that_runs_elsewhere_is_waited_for(shared, trains_no_more, tmp_path: Path, caplog) -> None:
    shared("none", "prune=none")
    trains_no_more()
    with trained_elsewhere(record(tmp_path), record(tmp_path).read_bytes(), caplog):
        assert shared("usp", "prune=usp")["trained_in"] == str(tmp_path / "none")


def test_a_job_killed_after_it_took_the_training_takes_it_again(shared, tmp_path: Path, monkeypatch) -> None:
    shared("none", "prune=none")
    with monkeypatch.context() as patch:
        patch.setattr(job_module, "save_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            shared("usp", "prune=usp", "logger=tensorboard")
    assert (tmp_path / "usp" / "checkpoints" / "last.ckpt").exists()
    time.sleep(1 - time.time() % 1)  # TensorBoard reads event files in the order of the seconds in their names
    again = shared("usp", "prune=usp", "logger=tensorboard")
    assert again["trained_in"] == str(tmp_path / "none")
    assert again["history"][-1]["layers"]
    assert [step for step, _ in scalars(tmp_path / "usp")["test/acc"]] == [1, 2]  # once


def test_a_job_killed_in_its_own_training_hands_nothing_on_and_goes_on_itself(shared, tmp_path: Path) -> None:
    with killed_at(9):
        shared("none", "prune=none", "every=1it")
    assert not list((tmp_path / "parents").rglob("*.json"))
    assert "trained_in" not in shared("usp", "prune=usp")
    assert shared("none", "prune=none", "every=1it")["trained_in"] == str(tmp_path / "usp")


def test_a_job_with_a_checkpoint_of_its_own_goes_on_while_another_trains(shared, tmp_path: Path, monkeypatch) -> None:
    with killed_at(9):
        shared("none", "prune=none", "every=1it")
    (lock,) = (tmp_path / "parents" / "rate0").glob("*.lock")
    monkeypatch.setattr("prunelab.job.sharing.dense_checkpoint.pause", lambda _: pytest.fail("it waited"))
    with held(lock, "elsewhere"):
        assert "trained_in" not in shared("none", "prune=none", "every=1it")


def test_beside_the_lock_of_another_user_each_trains_its_own(shared, tmp_path: Path, monkeypatch, caplog) -> None:
    with killed_at(9):
        shared("none", "prune=none")
    foreign = str(tmp_path / "parents" / "rate0")
    writable = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(foreign) and writable(path, mode))
    assert "trained_in" not in shared("usp", "prune=usp")
    assert ".lock: it cannot be written, as another user's; give parents= a folder of your own" in caplog.text


@pytest.mark.parametrize(
    "overrides",
    [
        ("prune=none", "seed=1"), ("prune=usp", "epochs=1"), ("prune=slimming",), ("prune=binary",),
        ("prune=usp", "prune.pruning.pruner.schedule.rate=0.5"), ("prune=usp", "rerun=true"),
    ],
)  # fmt: skip
def test_another_training_is_not_taken_and_takes_none(overrides: tuple[str, ...], shared, tmp_path: Path) -> None:
    shared("none", "prune=none")
    assert "trained_in" not in shared("other", *overrides)
    shutil.rmtree(tmp_path / "parents")
    shared("other2", *overrides)
    assert "trained_in" not in shared("usp", "prune=usp")


def test_a_training_of_another_number_of_threads_is_not_taken(shared, monkeypatch: pytest.MonkeyPatch) -> None:
    shared("none", "prune=none")
    threads = torch.get_num_threads() + 1
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    assert "trained_in" not in shared("usp", "prune=usp")


def test_a_training_that_was_resumed_on_another_number_of_threads_is_not_taken_and_says_so(
    shared, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On neither number: its bits are of both."""
    with killed_at(9):
        shared("none", "prune=none", "every=1it")
    before = torch.get_num_threads()
    monkeypatch.setattr("torch.get_num_threads", lambda: before + 1)
    shared("none", "prune=none", "every=1it")
    said = f"begun with threads={before}, goes on with threads={before + 1}: its bits may be"
    assert said in caplog.text
    assert "trained_in" not in shared("usp", "prune=usp")


@pytest.mark.parametrize("damage", ["checkpoint", "result", "versions", "record"])
def test_a_training_that_is_gone_damaged_or_of_other_software_is_not_taken(damage: str, shared, tmp_path: Path) -> None:
    shared("none", "prune=none")
    result = tmp_path / "none" / "result.json"
    if damage == "checkpoint":
        (tmp_path / "none" / "checkpoints" / "last.ckpt").write_bytes(b"cut")
    elif damage == "result":
        result.write_text("{")
    elif damage == "record":
        record(tmp_path).write_text('{"folder": 3}')
    else:
        content = json.loads(result.read_text())
        result.write_text(json.dumps(content | {"versions": content["versions"] | {"torch": "1.0"}}))
    assert "trained_in" not in shared("usp", "prune=usp")
    assert shared("sp", "prune=sp")["trained_in"] == str(tmp_path / "usp")


def test_a_checkpoint_of_another_job_is_refused_as_ever(shared, tmp_path: Path) -> None:
    shared("none", "prune=none")
    shared("other", "prune=usp", "seed=1")
    shutil.copytree(tmp_path / "other" / "checkpoints", tmp_path / "usp" / "checkpoints")
    with pytest.raises(ValueError, match="is of another job, with other .*seed"):
        shared("usp", "prune=usp")


def test_without_a_folder_for_notes_each_trains_its_own(shared, tmp_path: Path, monkeypatch, caplog) -> None:
    (tmp_path / "file").touch()
    here = (f"parents={tmp_path}/file/parents",)
    shared("none", "prune=none", *here)
    assert "trained_in" not in shared("usp", "prune=usp", *here)
    assert "no training is shared" in caplog.text

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("prunelab.job.sharing.training.write_json", full)
    assert "trained_in" not in shared("sp", "prune=sp")  # and is finished all the same
    assert "No space left on device" in caplog.text


def test_a_job_that_waits_can_be_stopped(shared, tmp_path: Path, monkeypatch) -> None:
    shared("none", "prune=none")
    lock = record(tmp_path).with_suffix(".lock")
    record(tmp_path).unlink()
    monkeypatch.setattr(
        "prunelab.job.sharing.dense_checkpoint.time.sleep", lambda _: signal.raise_signal(signal.SIGTERM)
    )
    with held(lock, "elsewhere"), pytest.raises(Interrupted):
        shared("usp", "prune=usp")


def test_code_without_a_version_shares_nothing(shared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shared("none", "prune=none", "model=narrow")  # a network of one's own
    assert "trained_in" not in shared("usp", "prune=usp", "model=narrow")
    for n, commit in enumerate(("0123456789ab+", None)):  # None: a checkout without Git
        monkeypatch.setattr("prunelab.store.job.versions", lambda: {"torch": "2", "commit": commit})  # noqa: B023
        shared(f"none{n}", "prune=none")
        assert "trained_in" not in shared(f"usp{n}", "prune=usp")


def test_the_dense_training_that_retraining_begins_with_is_its_own(shared, tmp_path: Path) -> None:
    """It keeps snapshots, which a training without Rewind has not."""
    shared("none", "prune=none")
    asked = ("prune=lottery", "rate=0.5", "pretrained=auto", "rewind=1ep")
    beside, alone = shared("beside", *asked), shared("alone", *asked, f"parents={tmp_path}/others")
    assert all(torch.equal(t, alone["state_dict"][name]) for name, t in beside["state_dict"].items())
