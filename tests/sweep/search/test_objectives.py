"""Objectives of a trial: accuracy on validation data, and the costs in result.json."""

import json
import math
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from prunelab.sweep.search.objectives import directions, outcome

WHOLE = json.loads((Path(__file__).parents[2] / "store" / "result-0.1.0.json").read_text())


def folder(path: Path) -> Path:
    history = [WHOLE["history"][0] | {"val_acc": accuracy, "test_acc": 0.1} for accuracy in (0.9, 0.5)]
    cost = WHOLE["cost"] | {"pruned": WHOLE["cost"]["pruned"] | {"macs": 5, "nonzero": 4, "bops": 3}}
    (path / "result.json").write_text(json.dumps(WHOLE | {"history": history, "cost": cost, "accuracy": 0.1}))
    return path


def returned(value: object = 0.1, status: JobStatus = JobStatus.COMPLETED, **fields: object) -> JobReturn:
    return JobReturn(_return_value=value, status=status, **fields)  # type: ignore[arg-type]


def test_accuracy_is_that_of_the_last_epoch_on_validation_images(tmp_path: Path) -> None:
    job = returned(working_dir=str(folder(tmp_path)))
    assert outcome(job, ["accuracy", "macs", "nonzero", "bops"]) == [0.5, 5, 4, 3]


def test_a_job_of_this_process_has_its_folder_in_hydras_configuration(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"hydra": {"runtime": {"output_dir": str(folder(tmp_path))}}})
    assert outcome(returned(working_dir=str(tmp_path.parent), hydra_cfg=cfg), ["macs"]) == [5]


def test_a_failed_job_has_no_outcome_whatever_its_folder_holds(tmp_path: Path) -> None:
    where = str(folder(tmp_path))
    with pytest.raises(RuntimeError, match=r"train\.log"):
        outcome(returned(math.nan, working_dir=where), ["macs"])
    with pytest.raises(ZeroDivisionError):
        outcome(returned(ZeroDivisionError(), JobStatus.FAILED, working_dir=where), ["macs"])
    with pytest.raises(FileNotFoundError):
        outcome(returned(working_dir=str(tmp_path / "empty")), ["macs"])


def test_costs_are_minimised_and_unknown_objectives_refused() -> None:
    assert directions(["accuracy", "macs"]) == ["maximize", "minimize"]
    for wrong in (["flops"], [], ["macs", "macs"]):
        with pytest.raises(ValueError, match=r"hydra\.sweeper\.objectives"):
            directions(wrong)
