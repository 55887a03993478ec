"""Records of epochs: their contents, their time across a restart, and divergence."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from prunelab.lit.history import METRICS, History


class Clock:
    """Replaces `time.monotonic` and `time.process_time`; tests set `now` and `cpu`, and nothing has been compiled."""

    now, cpu = 100.0, 40.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("prunelab.lit.history.time.monotonic", clock)
    monkeypatch.setattr("prunelab.lit.history.time.process_time", lambda: clock.cpu)
    monkeypatch.setattr("prunelab.lit.history.compile_seconds", lambda: 0.0)  # what earlier tests compiled
    return clock


def trainer(**metrics: float) -> Any:
    values = dict.fromkeys(METRICS, 0.5) | {name.replace("_", "/", 1): value for name, value in metrics.items()}
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    return SimpleNamespace(
        callback_metrics={name: torch.tensor(value) for name, value in values.items()},
        current_epoch=2, global_step=21, max_epochs=3, optimizers=[optimizer],
        state=SimpleNamespace(fn=TrainerFn.VALIDATING),
    )  # fmt: skip


class Module:
    """Keeps what is logged."""

    def log_dict(self, values: dict[str, float], rank_zero_only: bool) -> None:
        self.logged = values


def test_a_record_has_metrics_sparsity_learning_rate_and_seconds(clock: Clock) -> None:
    history, module = History(), Module()
    history.setup(trainer(), module, "fit")
    history.on_train_epoch_start(trainer(), module)
    clock.now, clock.cpu = clock.now + 3, clock.cpu + 2
    history.on_train_epoch_end(trainer(test_acc=0.75, sparsity_all=0.25), module)
    metrics = {name.replace("/", "_"): 0.5 for name in METRICS} | {"test_acc": 0.75}
    taken = {"seconds": 3.0, "cpu_seconds": 2.0}
    assert history.epochs == [metrics | {"epoch": 3, "step": 21, "sparsity": 0.25, "lr": 0.1} | taken]
    assert module.logged == {"train/lr": 0.1, "train/seconds": 3.0}


def test_the_learning_rate_is_that_of_the_last_step(clock: Clock) -> None:
    """Schedules have set that of the next step when an epoch ends."""
    history, module, now = History(), Module(), trainer()
    history.setup(now, module, "fit")
    history.on_before_optimizer_step(now, module, now.optimizers[0])
    now.optimizers[0].param_groups[0]["lr"] = 0.01
    resumed = History()
    resumed.setup(now, module, "fit")
    resumed.load_state_dict(history.state_dict())
    for each in (history, resumed):
        each.on_train_epoch_end(now, module)
        assert [epoch["lr"] for epoch in each.epochs] == [0.1]


def test_seconds_of_a_resumed_epoch_include_those_before_the_restart(clock: Clock) -> None:
    killed, resumed = History(), History()
    killed.setup(trainer(), Module(), "fit")
    clock.now, clock.cpu = clock.now + 5, clock.cpu + 4
    state = killed.state_dict()
    clock.now, clock.cpu = 7, 3  # another process, other clocks
    resumed.setup(trainer(), Module(), "fit")
    resumed.load_state_dict(state)
    resumed.on_train_start(trainer(), Module())
    clock.now, clock.cpu = clock.now + 2, clock.cpu + 1
    resumed.on_train_epoch_end(trainer(), Module())
    assert [(record["seconds"], record["cpu_seconds"]) for record in resumed.epochs] == [(7.0, 5.0)]


def test_cpu_time_is_that_of_all_ranks_also_of_those_before_a_restart(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunelab.lit.history.gather", lambda own: [own, own + 2])
    monkeypatch.setattr("prunelab.lit.history.world_size", lambda: 2)
    killed, resumed, evaluated = History(), History(), History()
    killed.setup(trainer(), Module(), "fit")
    clock.cpu += 4
    state = killed.state_dict()
    assert state["cpu_spent"] == 10
    resumed.setup(trainer(), Module(), "fit")
    resumed.load_state_dict(state)
    resumed.on_train_start(trainer(), Module())
    clock.cpu += 1
    resumed.on_train_epoch_end(trainer(), Module())
    assert resumed.epochs[0]["cpu_seconds"] == (5 + 1) + (5 + 1 + 2)
    evaluated.setup(trainer(), Module(), "validate")
    clock.cpu += 3
    evaluated.on_validation_epoch_end(trainer(), Module())
    evaluated.on_validation_end(trainer(), Module())
    assert evaluated.epochs[0]["cpu_seconds"] == 3 + 5


def test_seconds_of_compilation_are_recorded_apart(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = Clock()
    monkeypatch.setattr("prunelab.lit.history.compile_seconds", compiled)
    history = History()
    history.setup(trainer(), Module(), "fit")
    clock.now, compiled.now = clock.now + 60, compiled.now + 50
    history.on_train_epoch_end(trainer(), Module())
    clock.now += 10
    history.on_train_epoch_end(trainer(), Module())
    assert [(record["seconds"], record.get("compile_seconds")) for record in history.epochs] == [(10, 50), (10, None)]


def test_the_time_of_an_epoch_that_has_ended_is_not_that_of_the_next(clock: Clock) -> None:
    history = History()
    history.setup(trainer(), Module(), "fit")
    clock.now += 5
    history.on_train_epoch_end(trainer(), Module())
    clock.now += 1  # a checkpoint between two epochs
    assert history.state_dict()["spent"] == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_divergence_ends_the_training_and_names_the_metric(value: float, clock: Clock) -> None:
    history = History()
    history.setup(trainer(), Module(), "fit")
    with pytest.raises(ValueError, match=rf"epoch 3: val_loss is {value}, training diverged: lower the learning rate"):
        history.on_train_epoch_end(trainer(val_loss=value), Module())
    assert history.epochs == []


def test_an_evaluation_without_training_is_epoch_0(clock: Clock) -> None:
    history = History()
    history.setup(trainer(), Module(), "validate")
    clock.now, clock.cpu = clock.now + 4, clock.cpu + 3
    history.on_validation_epoch_end(trainer(), Module())
    history.on_validation_end(trainer(), Module())
    assert (
        history.epochs[0] | {"epoch": 0, "step": 0, "sparsity": 0.0, "seconds": 4.0, "cpu_seconds": 3.0}
        == history.epochs[0]
    )
