"""Scan jobs: on weights from a file, after training in the job, and after shared dense pretraining."""

import json
from pathlib import Path

import pytest
import torch
from compose import compose_job, run_job, tiny_job

from prunelab.__main__ import main
from prunelab.callbacks import Scan
from prunelab.job.run import run
from prunelab.lit.classifier import Classifier
from prunelab.store.result import read
from prunelab.store.signals import Interrupted, stoppable

QUICK = ("prune.pruning.rates=4", "prune.pruning.batches=2", "prune.pruning.zoom=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dense")


@pytest.fixture(scope="module")
def dense(tiny_images: Path, folder: Path) -> dict:
    return run_job([*tiny_job(tiny_images), "prune=none"], folder)


@pytest.fixture
def from_file(dense: dict, folder: Path) -> tuple[str, ...]:
    return ("experiment=scan", "epochs=0", f"pretrained={folder}", *QUICK)


def test_weights_of_a_file_are_scanned_without_any_training(dense, from_file, job, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Classifier, "training_step", lambda *_: pytest.fail("it trained"))
    monkeypatch.setattr("prunelab.core.pruner.Pruner.apply", lambda *_: pytest.fail("it pruned"))
    result = run_only(job, tmp_path, *from_file)
    scan = result["scan"]
    assert (result["method"], result["rate"], scan["n"]) == ("scan", 0.0, 40)
    assert scan["rates"] == [0.0, 0.25, 0.5, 0.75]
    assert scan["accuracy"][0] == pytest.approx(dense["accuracy"]) == pytest.approx(result["accuracy"])
    assert len(scan["reestimated"]) == 4
    assert scan["statistics_from"] == 40
    assert result["cost"]["pruned"]["nonzero"] == result["cost"]["dense"]["nonzero"]
    assert [epoch["epoch"] for epoch in result["history"]] == [0]
    assert {path.name for path in (tmp_path / "job").iterdir()} == {
        ".lock",
        "job.json",
        "model.safetensors",
        "result.json",
    }


def run_only(job, tmp_path: Path, *overrides: str) -> dict:
    """The result of a job that leaves no checkpoint."""
    with pytest.raises(FileNotFoundError, match=r"last\.ckpt"):
        job(*overrides)
    return json.loads((tmp_path / "job" / "result.json").read_text())


def test_the_scan_is_the_same_after_training_in_the_job_and_after_shared_pretraining(
    dense, from_file, job, tmp_path: Path
) -> None:
    single = job("experiment=scan", "epochs=3", *QUICK, folder=tmp_path / "single")
    shared = job("experiment=scan", "epochs=3", "pretrained=auto", *QUICK, folder=tmp_path / "shared")
    again = run_only(job, tmp_path, *from_file)
    for result in (single, shared):
        assert result["accuracy"] == dense["accuracy"]
        assert all(torch.equal(t, dense["state_dict"][name]) for name, t in result["state_dict"].items())
        assert without_time(result["scan"]) == without_time(again["scan"])


def without_time(scan: dict) -> dict:
    return {key: value for key, value in scan.items() if key != "seconds"}


@pytest.mark.parametrize("average", [(), ("callbacks=ema", "callbacks.ema.decay=0.5")], ids=["", "average"])
def test_an_interrupted_scan_keeps_the_training_and_starts_again(average, job, tmp_path: Path, monkeypatch) -> None:
    """Of the averaged network where there is one, as it was tested."""
    overrides = ("experiment=scan", "epochs=3", *QUICK, *average)
    whole = job(*overrides, folder=tmp_path / "whole")
    find = Scan.find

    def interrupted(self, trial, units):
        trial({})  # this one still works
        stop.request(15)
        return find(self, trial, units)

    monkeypatch.setattr(Scan, "find", interrupted)
    with stoppable() as stop, pytest.raises(Interrupted, match="interrupted while masks were evaluated"):
        job(*overrides, folder=tmp_path / "again")
    assert not (tmp_path / "again" / "result.json").exists()
    monkeypatch.undo()
    monkeypatch.setattr(Classifier, "training_step", lambda *_: pytest.fail("it trained again"))
    resumed = job(*overrides, folder=tmp_path / "again")
    assert without_time(resumed["scan"]) == without_time(whole["scan"])


def test_parts_of_the_method_are_those_chosen_in_conf(composed) -> None:
    cfg = composed("experiment=scan", "prune/criterion=taylor", "prune/granularity=filter", "prune/allocation=global")
    pruner = cfg.prune.pruning.pruner
    assert pruner.criterion._target_.endswith("Taylor")
    assert pruner.granularity._target_.endswith("Filter")
    assert pruner.allocation._target_.endswith("Global")


@pytest.mark.parametrize("experiment", ["scan", "sensitivity"])
def test_epochs_are_none_on_weights_from_a_file_and_a_training_otherwise(experiment: str, tmp_path: Path) -> None:
    overrides = [f"experiment={experiment}", "data=shapes"]
    assert compose_job([*overrides, "pretrained=some.pt"], tmp_path).epochs == 0
    assert compose_job(overrides, tmp_path).epochs == 50
    assert compose_job([*overrides, "pretrained=auto"], tmp_path).epochs == 50


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prune=scan", "rate=0.5"], "rate=0.5: this method does not use it; drop it"),
        (["prune=scan", "epochs=0"], "epochs=0: expected a whole number of at least 1"),
        (["prune=usp", "rate=0.5", "epochs=0", "pretrained=FILE"], "epochs=0: expected a whole number of at least 1"),
        (["prune=scan", "budget=macs"], "budget=macs: this method does not use it"),
        (["prune=scan", "prune.pruning.rates=[0.5,1.5]"], r"rates: 1.5 is no fraction in \[0, 1\)"),
        (["prune=scan", "prune.pruning.batches=8"], "asks for 8 batches of 20 images, .* lower prune.pruning.batches"),
        (["prune=scan", "prune/criterion=movement"], "choose another criterion"),
        (["prune=scan", "prune/allocation=explicit"], "Explicit has its own: use prune/allocation=uniform"),
        (["prune=scan", "pretrained=auto", "trainer=ddp", "trainer.devices=2"], "devices=2: Scan works on one"),
        (["prune=sensitivity", "prune/allocation=erk"], "ERK shares out: use prune/allocation=uniform"),
        (["prune=sensitivity", "prune.pruning.pruner.skip=['*']"], "every prunable weight is skipped"),
        (["prune=scan", "pretrained=auto", "prune.pruning.rates=1"], "rates=1: expected at least 2"),
    ],
)
def test_mistakes_are_reported_before_any_training(
    overrides: list[str], message: str, composed, tmp_path: Path
) -> None:
    (tmp_path / "w.pt").touch()
    with pytest.raises(ValueError, match=message):
        run(composed(*[o.replace("FILE", f"{tmp_path}/w.pt") for o in overrides]))
    assert {path.name for path in (tmp_path / "job").glob("*")} <= {".lock", "failure.json"}
    assert not (tmp_path / "parents").exists()


def test_a_report_draws_the_analyses_of_a_folder(job, tmp_path: Path, monkeypatch, capsys) -> None:
    job("experiment=scan", "epochs=1", *QUICK[:2], "prune.pruning.zoom=2", folder=tmp_path / "s" / "prune=scan")
    layers = ("prune.pruning.rates=2", "prune.pruning.pruner.skip=[net.layer*]")
    job("experiment=sensitivity", "epochs=1", *layers, folder=tmp_path / "s" / "prune=sensitivity")
    sensitivity = read(tmp_path / "s" / "prune=sensitivity").sensitivity
    assert sensitivity is not None
    assert "net.conv1.weight" in sensitivity["layers"]
    assert main(["report", str(tmp_path / "s")]) == 0
    figures = {path.stem for path in (tmp_path / "s" / "figures").glob("*.png")}
    assert {"scan", "sensitivity"} <= figures
    scan = read(tmp_path / "s" / "prune=scan").scan
    assert scan is not None
    assert {f"scan-{low:g}_to_{high:g}" for low, high in scan["windows"]} <= figures
    assert capsys.readouterr().err == ""
