"""A finished job has one entry on TensorBoard's HParams page, with the values of its result."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import events
import pytest
import torch

from prunelab.job.run import run
from prunelab.lit.classifier import Classifier
from prunelab.store.signals import Interrupted

BOARD = "logger=tensorboard"
SHORT = ("model=resnet8", "epochs=1")  # as the fixture `trained` has them
USP = ("prune=usp", "rate=0.5", "seed=3", "augment.flip=false")


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*tfevents*"))


def test_a_finished_job_logs_its_settings_and_results(trained) -> None:
    folder = trained(*USP, BOARD)
    result = json.loads((folder / "result.json").read_text())
    row = events.hyperparameters(folder)
    assert row == {
        "method": "usp", "rate": 0.5, "seed": 3, "model": "resnet8", "data": "image_folder", "epochs": 1,
        "lr": result["config"]["optim"]["optimizer"]["lr"], "batch_size": 20,
        "more": "data.val=20 precision=32-true augment.flip=false",
    }  # fmt: skip
    scalars = events.tensors(folder, "scalars")
    pruned = result["cost"]["pruned"]
    for tag, value in {
        "test accuracy": result["accuracy"], "sparsity attained": result["sparsity"]["attained"],
        "MACs left (millions)": pruned["macs"] / 1_000_000, "parameters left (millions)": pruned["nonzero"] / 1_000_000,
        "BOPs left (billions)": pruned["bops"] / 1_000_000_000, "seconds": result["seconds"],
    }.items():  # fmt: skip
        assert [float(v) for v in scalars[f"trained/{tag}"]] == pytest.approx([value], rel=1e-6), tag
    assert list(folder.glob("*.yaml")) == []  # Lightning leaves an empty one


def test_an_analysis_without_training_is_at_epoch_0_and_a_trained_network_at_its_last(
    trained, job, tmp_path: Path
) -> None:
    dense = trained("prune=none", BOARD)
    scan = ("experiment=scan", f"pretrained={dense}", "prune.pruning.rates=2", "prune.pruning.batches=0")
    with pytest.raises(FileNotFoundError, match=r"last\.ckpt"):  # no checkpoint is left
        job("model=resnet8", "epochs=0", *scan, BOARD)
    for folder, last in ((dense, 1), (tmp_path / "job", 0)):
        steps = events.last_steps(folder)
        assert {"val/acc", "test/acc", "trained/test accuracy"} <= set(steps)
        assert set(steps.values()) == {last}


def test_an_unfinished_job_has_no_entry(composed, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("prunelab.job.run.finish", lambda *_: pytest.fail("as if it were killed here"))
    with pytest.raises(pytest.fail.Exception):
        run(composed(*SHORT, *USP, BOARD))
    assert events.tensors(tmp_path / "job", "hparams") == {}


@pytest.fixture
def unrecorded(trained, tmp_path: Path) -> Path:
    """The folder of a job that was killed after its entry and before its result."""
    folder = shutil.copytree(trained(*USP, BOARD), tmp_path / "job")
    (folder / "result.json").unlink()
    return folder


def test_a_job_that_was_killed_after_its_entry_has_one_entry(unrecorded: Path, job) -> None:
    result = job(*SHORT, *USP, BOARD)
    assert len([path for path in unrecorded.glob("*.result") if path.stat().st_size]) == 1
    accuracies = events.tensors(unrecorded, "scalars")["trained/test accuracy"]
    assert [float(v) for v in accuracies] == pytest.approx([result["accuracy"]])


def test_an_epoch_at_whose_end_a_job_was_stopped_is_logged_completely_and_once(
    job, composed, tmp_path: Path, monkeypatch
) -> None:
    log = Classifier.on_validation_epoch_end

    def stopped(self: Classifier) -> None:
        log(self)
        if self.trainer.current_epoch == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Classifier, "on_validation_epoch_end", stopped)
    overrides = ("model=resnet8", "epochs=2", *USP, BOARD)
    with pytest.raises(Interrupted):
        run(composed(*overrides))
    monkeypatch.undo()
    job(*overrides)
    shown = events.steps(tmp_path / "job")
    assert {"train/acc", "train/lr", "test/acc", "sparsity/all", "units_removed/net.conv1", "weights/net.fc"} <= set(
        shown
    )
    # Sorted, as two files of one process and one second are read by their numbers as text: 10 before 9.
    assert {tag: steps for tag, steps in shown.items() if sorted(steps) != [1, 2]} == {}


def test_epochs_of_a_single_step_count_from_one(job, tmp_path: Path) -> None:
    job(*USP, "logger=tensorboard", "optim.batch_size=140", "epochs=3")
    shown = events.steps(tmp_path / "job")
    assert [sorted(shown[tag]) for tag in ("train/acc", "train/lr", "val/acc", "sparsity/all")] == [[1, 2, 3]] * 4


@pytest.mark.parametrize("logger", ["none", "csv"])
def test_without_tensorboard_there_is_no_event_file_nothing_of_it_is_imported_and_no_bit_is_different(
    logger: str, trained, job, tmp_path: Path, monkeypatch
) -> None:
    shown = torch.load(trained(*USP, BOARD) / "checkpoints" / "last.ckpt", weights_only=True)
    monkeypatch.delitem(sys.modules, "prunelab.tensorboard.events", raising=False)
    monkeypatch.delattr("prunelab.tensorboard.events", raising=False)
    quiet = job(*SHORT, *USP, f"logger={logger}")["checkpoint"]
    assert files(tmp_path) == []
    assert "prunelab.tensorboard.events" not in sys.modules
    assert torch.equal(quiet["callbacks"]["RngState"]["cpu"], shown["callbacks"]["RngState"]["cpu"])
    assert all(torch.equal(tensor, shown["state_dict"][name]) for name, tensor in quiet["state_dict"].items())


def test_a_job_whose_entry_cannot_be_written_keeps_its_result_and_warns(
    unrecorded: Path, job, monkeypatch, caplog
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such protobuf")

    monkeypatch.setattr("prunelab.tensorboard.events.replace", broken)
    assert job(*SHORT, *USP, BOARD)["history"][-1]["epoch"] == 1
    assert not (unrecorded / "failure.json").exists()
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"{unrecorded}: not in TensorBoard: RuntimeError: no such protobuf"
    ]


def test_shared_dense_pretraining_has_no_entry(job, tmp_path: Path) -> None:
    job(*SHORT, "prune=finetune", "rate=0.5", "pretrained=auto", BOARD)
    assert list(tmp_path.glob("parents/*/result.json"))
    assert {path.parent for path in files(tmp_path)} == {tmp_path / "job"}
    assert events.hyperparameters(tmp_path / "job")["method"] == "finetune"
