"""At rate 0 the training of one job serves all methods that train from scratch."""

import threading
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from prunelab.lit.classifier import Classifier
from prunelab.store.folder import RunDir
from prunelab.store.lock import held


def named(outputs: Path, method: str, study: str = "study") -> Path:
    return outputs / study / f"prune={method},rate=0,seed=0"


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def without_times(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


@pytest.mark.parametrize("method", ["sp", "lottery", "rigl"])
def test_a_second_method_takes_the_training_of_the_first_with_its_bits(
    method: str, job, tmp_path: Path, monkeypatch
) -> None:
    overrides = (f"prune={method}", "rate=0", "logger=tensorboard")
    alone = job(*overrides, folder=tmp_path / "alone" / "job")
    dense = job("prune=none", "rate=0", folder=named(tmp_path, "none"))
    monkeypatch.setattr(Classifier, "training_step", lambda *_: pytest.fail("it trained again"))
    shared = job(*overrides, folder=named(tmp_path, method))
    assert shared["trained_in"] == str(named(tmp_path, "none"))
    assert "trained_in" not in dense
    assert all(torch.equal(t, alone["state_dict"][name]) for name, t in shared["state_dict"].items())
    assert without_times(shared["history"]) == without_times(alone["history"])
    assert [row["seconds"] for row in shared["history"]] == [row["seconds"] for row in dense["history"]]
    rest = alone.keys() - {"config", "cost", "seconds", "peak_memory", "history", "state_dict", "checkpoint"}
    assert {key: shared[key] for key in rest} == {key: alone[key] for key in rest}
    drawn, asked = (scalars(folder) for folder in (named(tmp_path, method), tmp_path / "alone" / "job"))
    assert drawn.keys() == asked.keys()
    assert drawn["test/acc"] == asked["test/acc"]


def test_a_training_that_runs_elsewhere_is_waited_for(job, tmp_path: Path, monkeypatch, caplog) -> None:
    caplog.set_level("INFO")
    dense = named(tmp_path, "none")
    job("prune=none", "rate=0", folder=dense)
    (dense / "result.json").rename(tmp_path / "kept")
    (dense / "job.json").unlink()  # as it is until training begins

    def train_there() -> None:
        with held(RunDir(dense).lock):
            begun.set()
            while "waiting for the same training" not in caplog.text and not done.wait(0.1):
                pass
            (tmp_path / "kept").rename(dense / "result.json")

    begun, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=train_there)
    thread.start()
    begun.wait()
    monkeypatch.setattr(Classifier, "training_step", lambda *_: pytest.fail("it trained again"))
    try:
        assert job("prune=usp", "rate=0", folder=named(tmp_path, "usp", "study2"))["trained_in"] == str(dense)
    finally:
        done.set()
        thread.join()


def test_of_two_that_begin_together_the_first_by_name_does_not_wait(job, tmp_path: Path) -> None:
    with held(RunDir(named(tmp_path, "usp")).lock):
        assert "trained_in" not in job("prune=none", "rate=0", folder=named(tmp_path, "none"))


@pytest.mark.parametrize(
    "overrides",
    [
        ("prune=none", "seed=1"), ("prune=usp", "epochs=2"), ("prune=slimming",),
        ("prune=binary",), ("prune=usp", "prune.pruning.pruner.schedule.rate=0.5"),
    ],
)  # fmt: skip
def test_another_training_is_not_taken_and_takes_none(overrides: tuple[str, ...], job, tmp_path: Path) -> None:
    job("prune=none", "rate=0", "epochs=1", folder=named(tmp_path / "a", "none"))
    job("rate=0", "epochs=1", *overrides, folder=named(tmp_path / "b", "other"))
    for outputs, method in (("a", overrides), ("b", ("prune=none", "epochs=1"))):
        assert "trained_in" not in job("rate=0", "epochs=1", *method, folder=named(tmp_path / outputs, "z"))


def test_a_rerun_trains_again(job, tmp_path: Path) -> None:
    job("prune=none", "rate=0", "epochs=1", folder=named(tmp_path, "none"))
    again = job("prune=usp", "rate=0", "epochs=1", "rerun=true", folder=named(tmp_path, "usp"))
    assert "trained_in" not in again
