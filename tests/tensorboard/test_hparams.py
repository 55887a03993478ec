"""A finished job has one entry on TensorBoard's HParams page, with the values of its result."""

import os
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
USP = ("prune=usp", "rate=0.5")


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*tfevents*"))


@pytest.mark.parametrize("prune", ["usp", "sp"])
def test_a_finished_job_logs_its_settings_and_results(prune: str, job, tmp_path: Path) -> None:
    result = job(f"prune={prune}", "rate=0.5", "seed=3", "augment.flip=false", BOARD)
    row = events.hyperparameters(tmp_path / "job")
    assert row == {
        "method": prune, "rate": 0.5, "seed": 3, "model": "resnet8", "data": "image_folder", "epochs": 3,
        "lr": result["config"]["optim"]["optimizer"]["lr"], "batch_size": 20,
        "more": "data.val=20 augment.flip=false",
    }  # fmt: skip
    scalars = events.tensors(tmp_path / "job", "scalars")
    pruned = result["cost"]["pruned"]
    for tag, value in {
        "test accuracy": result["accuracy"], "sparsity attained": result["sparsity"]["attained"],
        "MACs left (millions)": pruned["macs"] / 1_000_000, "parameters left (millions)": pruned["nonzero"] / 1_000_000,
        "BOPs left (billions)": pruned["bops"] / 1_000_000_000, "seconds": result["seconds"],
    }.items():  # fmt: skip
        assert [float(v) for v in scalars[f"trained/{tag}"]] == pytest.approx([value], rel=1e-6), tag


def test_a_job_that_logs_to_tensorboard_leaves_no_empty_yaml_beside_it(job, tmp_path: Path) -> None:
    job(*USP, BOARD)
    assert list((tmp_path / "job").glob("*.yaml")) == []


def test_an_analysis_without_training_is_at_epoch_0_and_a_trained_network_at_its_last(job, tmp_path: Path) -> None:
    trained, analysed = tmp_path / "dense", tmp_path / "job"
    job("prune=none", BOARD, folder=trained)
    with pytest.raises(FileNotFoundError, match=r"last\.ckpt"):  # no checkpoint is left
        job(
            "experiment=scan",
            "epochs=0",
            f"pretrained={trained}",
            "prune.pruning.rates=2",
            "prune.pruning.batches=0",
            BOARD,
        )
    for folder, last in ((trained, 3), (analysed, 0)):
        steps = events.last_steps(folder)
        assert {"val/acc", "test/acc", "trained/test accuracy"} <= set(steps)
        assert set(steps.values()) == {last}


def test_an_unfinished_job_has_no_entry(composed, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("prunelab.job.run.finish", lambda *_: pytest.fail("as if it were killed here"))
    with pytest.raises(pytest.fail.Exception):
        run(composed(*USP, BOARD))
    assert events.tensors(tmp_path / "job", "hparams") == {}


def test_a_job_that_was_killed_after_its_entry_has_one_entry(job, tmp_path: Path) -> None:
    job(*USP, BOARD)
    (tmp_path / "job" / "result.json").unlink()
    result = job(*USP, BOARD)
    assert len([path for path in (tmp_path / "job").glob("*.result") if path.stat().st_size]) == 1
    accuracies = events.tensors(tmp_path / "job", "scalars")["trained/test accuracy"]
    assert [float(v) for v in accuracies] == pytest.approx([result["accuracy"]])


def test_an_epoch_at_whose_end_a_job_was_stopped_is_logged_completely_and_once(
    job, composed, tmp_path: Path, monkeypatch
) -> None:
    log = Classifier.on_validation_epoch_end

    def stopped(self: Classifier) -> None:
        log(self)
        if self.trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Classifier, "on_validation_epoch_end", stopped)
    with pytest.raises(Interrupted):
        run(composed(*USP, BOARD))
    monkeypatch.undo()
    job(*USP, BOARD)
    shown = events.steps(tmp_path / "job")
    assert {"train/acc", "train/lr", "test/acc", "sparsity/all", "units_removed/net.conv1", "weights/net.fc"} <= set(
        shown
    )
    assert {tag: steps for tag, steps in shown.items() if steps != [1, 2, 3]} == {}


@pytest.mark.parametrize("logger", ["none", "csv"])
def test_without_tensorboard_there_is_no_event_file_and_nothing_of_it_is_imported(
    logger: str, job, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.delitem(sys.modules, "prunelab.tensorboard.events", raising=False)
    monkeypatch.delattr("prunelab.tensorboard.events", raising=False)
    job(*USP, f"logger={logger}")
    assert files(tmp_path) == []
    assert "prunelab.tensorboard.events" not in sys.modules


def test_a_job_whose_entry_cannot_be_written_keeps_its_result_and_warns(
    job, tmp_path: Path, monkeypatch, caplog
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such protobuf")

    monkeypatch.setattr("prunelab.tensorboard.events.replace", broken)
    assert job(*USP, BOARD)["history"][-1]["epoch"] == 3
    assert not (tmp_path / "job" / "failure.json").exists()
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"{tmp_path / 'job'}: not in TensorBoard: RuntimeError: no such protobuf"
    ]


def test_logging_to_tensorboard_changes_no_bit_of_the_training(job, tmp_path: Path) -> None:
    quiet = job(*USP, folder=tmp_path / "a")["checkpoint"]
    shown = job(*USP, BOARD, folder=tmp_path / "b")["checkpoint"]
    assert torch.equal(quiet["callbacks"]["RngState"]["cpu"], shown["callbacks"]["RngState"]["cpu"])
    assert all(torch.equal(tensor, shown["state_dict"][name]) for name, tensor in quiet["state_dict"].items())


def test_shared_dense_pretraining_has_no_entry(job, tmp_path: Path) -> None:
    job("prune=finetune", "rate=0.5", "epochs=1", "pretrained=auto", BOARD)
    assert list(tmp_path.glob("parents/*/result.json"))
    assert {path.parent for path in files(tmp_path)} == {tmp_path / "job"}
    assert events.hyperparameters(tmp_path / "job")["method"] == "finetune"
