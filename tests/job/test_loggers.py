"""Several loggers and callbacks of Lightning, chosen by name; each logger gets settings and results."""

import json
from collections.abc import Callable
from csv import DictReader
from pathlib import Path
from typing import Any

import pytest
import torch
from compose import compose_job, job_from
from killed import killed_at
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from prunelab.job import check
from prunelab.lit.classifier import Classifier

ONE = ("prune=usp", "rate=0.5", "epochs=2")


def test_each_logger_writes_curves_settings_and_results(job: Callable[..., Any], tmp_path: Path) -> None:
    result = job(*ONE, "logger=[tensorboard,csv]", folder=tmp_path / "job")
    assert list((tmp_path / "job").glob("events.out.tfevents.*"))
    folder = tmp_path / "job" / "metrics" / "version_0"
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    table = {name: [row[i] for row in rows[1:] if row[i]] for i, name in enumerate(rows[0])}
    assert [float(x) for x in table["test/acc"]] == pytest.approx([epoch["test_acc"] for epoch in result["history"]])
    assert [float(x) for x in table["result/sparsity attained"]] == pytest.approx([0.5], abs=1e-3)
    assert "rate: '0.5'" in (folder / "hparams.yaml").read_text()


def test_callbacks_of_lightning_join_the_training(job: Callable[..., Any], tmp_path: Path) -> None:
    alone = job(*ONE, folder=tmp_path / "alone")
    both = job(*ONE, "callbacks=[ema,lr_monitor]", "callbacks.ema.decay=0.5", "logger=csv", folder=tmp_path / "both")
    assert "lr-SGD" in (tmp_path / "both" / "metrics" / "version_0" / "metrics.csv").read_text()
    name = next(name for name, tensor in alone["state_dict"].items() if tensor.dim() == 4)
    weights, averaged = alone["state_dict"][name], both["state_dict"][name]
    assert not torch.equal(weights, averaged)
    assert (averaged == 0).sum() == (weights == 0).sum() > 0


def test_a_callback_that_logs_at_steps_does_so(job: Callable[..., Any], tmp_path: Path) -> None:
    by_step = ("callbacks=lr_monitor", "callbacks.lr_monitor.logging_interval=step", "+trainer.log_every_n_steps=2")
    result = job(*ONE, *by_step, "logger=csv", folder=tmp_path)
    with (tmp_path / "metrics" / "version_0" / "metrics.csv").open() as file:
        logged = [float(row["lr-SGD"]) for row in DictReader(file) if row["lr-SGD"]]
    assert len(logged) == result["history"][-1]["step"] // 2 > 1


@pytest.mark.parametrize("name", ["EarlyStopping", "Timer"])
def test_what_ends_training_early_is_refused_before_it_begins(job: Callable[..., Any], tmp_path: Path, name) -> None:
    settings = {"EarlyStopping": "monitor: val/loss", "Timer": "duration: '00:00:10:00'"}[name]
    stop = f"+callbacks.stop={{_target_: lightning.pytorch.callbacks.{name}, {settings}}}"
    with pytest.raises(ValueError, match=f"{name} ends training before pruning and learning rate are through"):
        job(*ONE, stop, folder=tmp_path / "job")


def test_observers_keep_dense_training_shared(job: Callable[..., Any], tmp_path: Path) -> None:
    asked = ("prune=finetune", "rate=0.5", "epochs=1", "pretrained=auto")
    plain = job(*asked, folder=tmp_path / "plain")
    seen = job(*asked, "callbacks=lr_monitor", "logger=csv", folder=tmp_path / "seen")
    assert len([*(tmp_path / "parents").glob("*/result.json")]) == 1
    assert all(torch.equal(seen["state_dict"][name], tensor) for name, tensor in plain["state_dict"].items())
    assert "lr-SGD" in (tmp_path / "seen" / "metrics" / "version_0" / "metrics.csv").read_text()
    with pytest.raises(ValueError, match="EMAWeightAveraging acts on the dense training too"):
        job(*asked, "callbacks=ema", folder=tmp_path / "ema")


def test_loggers_of_a_job_that_was_killed_have_each_epoch_and_the_results(
    job: Callable[..., Any], tmp_path: Path
) -> None:
    asked = ("prune=usp", "rate=0.5", "logger=[tensorboard,csv]", "callbacks=lr_monitor", "rerun=false")
    with killed_at(8):  # in the second of three epochs
        job(*asked, folder=tmp_path / "job")
    result = job(*asked, folder=tmp_path / "job")
    events = EventAccumulator(str(tmp_path / "job"))
    events.Reload()
    assert [event.step for event in events.Scalars("test/acc")] == [1, 2, 3]
    (trained,) = events.Tensors("trained/test accuracy")
    assert make_ndarray(trained.tensor_proto) == pytest.approx(result["history"][-1]["test_acc"])
    written: list[float] = []
    for version in (0, 1):
        folder = tmp_path / "job" / "metrics" / f"version_{version}"
        with (folder / "metrics.csv").open() as file:
            rows = [*DictReader(file)]
        written += [float(row["test/acc"]) for row in rows if row.get("test/acc")]
        assert "rate: '0.5'" in (folder / "hparams.yaml").read_text()
    assert written == pytest.approx([epoch["test_acc"] for epoch in result["history"]])
    assert float(rows[-1]["result/test accuracy"]) == pytest.approx(result["history"][-1]["test_acc"])


def test_a_job_without_callbacks_has_no_value_for_them(tmp_path: Path) -> None:
    assert not [key for key in job_from(compose_job([], tmp_path)).values if key.startswith("callbacks")]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_whose_package_is_absent_is_refused(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(check, "find_spec", lambda package: None)
    with pytest.raises(ValueError, match=rf"logger={name} needs a package: pip install 'prunelab\[{name}\]'"):
        job_from(compose_job([f"logger={name}"], tmp_path))


def test_a_folder_of_the_name_of_a_package_is_none(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mlflow").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    if getattr(check.find_spec("mlflow"), "origin", None):
        pytest.skip("MLflow is installed")
    with pytest.raises(ValueError, match="logger=mlflow needs a package"):
        job_from(compose_job(["logger=mlflow"], tmp_path))


def test_an_observer_without_a_logger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="callbacks=lr_monitor writes to a logger, and there is none; add logger=csv"):
        job_from(compose_job(["callbacks=lr_monitor", "logger=none"], tmp_path))


def test_runs_end_whether_the_job_succeeds_or_fails(
    job: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(ExperimentWriter, "finish", lambda self: ended.append("run"), raising=False)
    job(*ONE, "logger=csv", folder=tmp_path / "ends")
    assert ended == ["run"]
    monkeypatch.setattr(Classifier, "training_step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        job(*ONE, "logger=csv", folder=tmp_path / "fails")
    assert ended == ["run"] * 2


def test_weights_and_biases_offline(job: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="Weights & Biases is not installed")
    job(*ONE, "logger=wandb", "logger.wandb.offline=true", folder=tmp_path / "job")
    (run,) = (tmp_path / "job" / "wandb").glob("offline-run-*/*.wandb")
    assert run.stat().st_size > 1000


def test_mlflow_in_a_folder(job: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    job(*ONE, "logger=mlflow", f"logger.mlflow.tracking_uri=file:{tmp_path}/runs", folder=tmp_path / "job")
    (accuracy,) = (tmp_path / "runs").glob("*/*/metrics/test/acc")
    assert len(accuracy.read_text().splitlines()) == 2
    (attained,) = (tmp_path / "runs").glob("*/*/metrics/result/sparsity attained")
    assert float(attained.read_text().split()[1]) == pytest.approx(0.5, abs=1e-3)


def test_old_jobs_had_one_logger_without_a_name(tmp_path: Path) -> None:
    before = job_from(compose_job([], tmp_path))
    raw = json.loads(json.dumps(before.to_json()))
    raw["config"]["logger"] = raw["config"]["logger"]["tensorboard"]
    after = type(before).from_json(raw)
    assert after.logs_events
    assert after.identity == before.identity
