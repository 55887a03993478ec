"""Checkpoints: atomic, intact, loaded without running code, saved when due."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from prunelab.core import distributed
from prunelab.lit.checkpoints import RENAMED, AtomicCheckpointIO, Checkpoints, is_intact, latest_intact


def test_a_checkpoint_round_trips_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / "deep" / "last.ckpt"
    io.save_checkpoint({"x": torch.arange(3), "n": 2}, path)
    assert torch.equal(io.load_checkpoint(path)["x"], torch.arange(3))
    assert list(path.parent.iterdir()) == [path]


def test_states_of_classes_that_0_1_0_called_otherwise_are_found(job, tmp_path: Path) -> None:
    now = job("epochs=1")["checkpoint"]
    assert set(RENAMED.values()) <= {*now, *now["callbacks"]}
    before = {name: old for old, name in RENAMED.items()}
    earlier = {before.get(key, key): value for key, value in now.items() if key != "callbacks"}
    earlier["callbacks"] = {before.get(key, key): value for key, value in now["callbacks"].items()}
    torch.save(earlier, tmp_path / "earlier.ckpt")
    assert not set(RENAMED.values()) & {*earlier, *earlier["callbacks"]}
    loaded = AtomicCheckpointIO().load_checkpoint(tmp_path / "earlier.ckpt")
    assert loaded.keys() == now.keys()
    assert loaded["callbacks"].keys() == now["callbacks"].keys()


def test_a_failed_save_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"x": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        io.save_checkpoint({"x": lambda: 0}, path)
    assert io.load_checkpoint(path) == {"x": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "ran").touch, ())

    torch.save({"x": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert not (tmp_path / "ran").exists()


def test_the_last_two_are_kept_and_a_damaged_one_is_skipped(tmp_path: Path, caplog) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    assert latest_intact(tmp_path, {}) is None
    for step in range(3):
        io.save_checkpoint({"step": step, "x": torch.arange(1000)}, path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert latest_intact(tmp_path, {}) == path
    path.write_bytes(path.read_bytes()[:-100])
    previous = latest_intact(tmp_path, {})
    assert previous is not None
    assert io.load_checkpoint(previous)["step"] == 1
    assert "last.ckpt is damaged" in caplog.text
    assert (tmp_path / "damaged.ckpt").exists()
    io.save_checkpoint({"step": 2}, path)  # the damaged one replaces no other
    assert io.load_checkpoint(tmp_path / "previous.ckpt")["step"] == 1


def test_a_flipped_bit_is_never_an_error_and_is_detected_in_tensors(tmp_path: Path) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"x": torch.arange(100)}, path)
    assert is_intact(path, {})
    content = path.read_bytes()
    tensor = content.index(torch.arange(100).numpy().tobytes())
    for position in range(len(content)):
        for bit in (1, 128):
            flipped = bytearray(content)
            flipped[position] ^= bit
            path.write_bytes(flipped)
            if is_intact(path, {}):
                assert not tensor <= position < tensor + 800, position
                io.load_checkpoint(path)


class Trainer(SimpleNamespace):
    """As much of a trainer as Checkpoints uses: an epoch of 7 batches, accumulated by 3; records when it saves."""

    def __init__(self) -> None:
        super().__init__(
            num_training_batches=7, accumulate_grad_batches=3, global_step=0, current_epoch=0, max_epochs=2, saved=[],
            optimizers=[],
        )  # fmt: skip

    def save_checkpoint(self, path: Path) -> None:
        self.saved.append(self.batch)

    def run(self, callback: Checkpoints, seconds: float = 0.0) -> list[int]:
        net = nn.Identity()
        callback.on_train_start(self, net)
        for self.batch in range(7):
            self.global_step += self.batch % 3 == 2 or self.batch == 6
            time.sleep(seconds)
            callback.on_train_batch_end(self, net, None, None, self.batch)
        callback.on_train_epoch_end(self, net)
        return self.saved


def checkpoints(tmp_path: Path, every: str) -> Checkpoints:
    return Checkpoints(tmp_path, every, lambda: False, KeyboardInterrupt)


def test_checkpoints_are_saved_between_optimizer_steps_and_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    assert Trainer().run(checkpoints(tmp_path, "1it")) == [2, 5, 6]
    assert Trainer().run(checkpoints(tmp_path, "2it")) == [5]
    assert Trainer().run(checkpoints(tmp_path, "1ep")) == [6]


def test_checkpoints_are_saved_when_the_time_has_passed(tmp_path: Path) -> None:
    assert Trainer().run(checkpoints(tmp_path, "0.01s"), seconds=0.02) == [2, 5, 6]
    assert Trainer().run(checkpoints(tmp_path, "1h")) == []


@pytest.mark.parametrize("broken", ["weight", "momentum", "running_mean", None])
def test_a_training_that_diverged_is_not_saved_and_the_last_finite_checkpoint_stays(
    tmp_path: Path, broken: str | None
) -> None:
    net = nn.BatchNorm1d(2)
    net.register_buffer("attention", torch.full((2,), -torch.inf))  # meant
    trainer, callback = Trainer(), checkpoints(tmp_path, "1it")
    (optimizer,) = trainer.optimizers = [torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)]
    net(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    callback.on_train_start(trainer, net)
    tensors = {**net.state_dict(), "momentum": optimizer.state[net.weight]["momentum_buffer"]}
    if broken:
        tensors[broken][1] = torch.nan if broken == "running_mean" else torch.inf
    trainer.global_step, trainer.batch = 3, 2
    if broken is None:
        callback.on_train_batch_end(trainer, net, None, None, 2)
        assert trainer.saved == [2]
        return
    for found, kept in ((False, "there is none before"), (True, "that of step 0 is kept")):
        if found:
            callback.path.touch()
        name = "running_mean" if broken == "running_mean" else "weight"
        with pytest.raises(ValueError, match=rf"step 3: {name} is NaN or infinite, .*\({kept}\): lower the learning"):
            callback.on_train_batch_end(trainer, net, None, None, 2)
    assert trainer.saved == []


SOUND = {"w": torch.ones(2), "attention": torch.tensor([0.0, -torch.inf]), "_extra_state": {"version": 2}}


@pytest.mark.parametrize(("weights", "momentum"), [
    ({"w": torch.tensor([0.0, torch.nan])}, 0.0), ({"w": torch.tensor([0.0, torch.inf])}, 0.0),
    ({"attention": torch.tensor([0.0, torch.nan])}, 0.0), ({}, torch.nan),
])  # fmt: skip
def test_a_checkpoint_that_training_would_refuse_is_passed_over_and_one_with_other_values_is_not(
    tmp_path: Path, weights: dict[str, Any], momentum: float
) -> None:
    for state, value in ((SOUND, 0.0), (SOUND | weights, momentum)):
        optimizer = {"state": {0: {"momentum_buffer": torch.full((2,), value), "step": 1}}, "param_groups": []}
        AtomicCheckpointIO().save_checkpoint(
            {"state_dict": state, "optimizer_states": [optimizer]}, tmp_path / "last.ckpt"
        )
    assert latest_intact(tmp_path, {"w"}) == tmp_path / "previous.ckpt"


class Ranks:
    """Two threads as ranks, the second slower, with a time of their own; counts their questions to each other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.barrier, self.given, self.asked = threading.Barrier(2, timeout=20), [], 0
        self.clock = threading.local()
        monkeypatch.setattr(distributed, "host_group", lambda: self)
        monkeypatch.setattr(distributed, "largest", self.largest)
        monkeypatch.setattr(time, "monotonic", lambda: getattr(self.clock, "now", 0.0))

    def largest(self, numbers: list[int], group: object) -> list[int]:
        self.given.append(numbers)
        self.barrier.wait()
        highest = [max(column) for column in zip(*self.given, strict=True)]
        if self.barrier.wait() == 0:
            self.given, self.asked = [], self.asked + 1
        self.barrier.wait()
        return highest

    def train(self, path: Path, every: str, rank: int, stop_after: int = 10**9) -> tuple[int, list[int]]:
        """250 steps of 0.02 or 0.03 seconds: where training ended, and where it saved."""
        trainer = SimpleNamespace(
            num_training_batches=1000, accumulate_grad_batches=1, global_step=0, current_epoch=0, max_epochs=2,
            optimizers=[],
        )  # fmt: skip
        saved: list[int] = []
        trainer.save_checkpoint = lambda _: saved.append(trainer.global_step)
        signalled = rank == 1
        callback = Checkpoints(path, every, lambda: signalled and trainer.global_step >= stop_after, KeyboardInterrupt)
        callback.on_train_start(trainer, net := nn.Identity())
        for batch in range(250):
            trainer.global_step += 1
            self.clock.now = trainer.global_step * (0.02, 0.03)[rank]
            try:
                callback.on_train_batch_end(trainer, net, None, None, batch)
            except KeyboardInterrupt:
                break
        return trainer.global_step, saved

    def both(self, *job: Any) -> list[tuple[int, list[int]]]:
        with ThreadPoolExecutor(2) as pool:
            return [*pool.map(lambda rank: self.train(*job[:2], rank, *job[2:]), (0, 1))]


def test_ranks_ask_once_a_second_whether_one_is_to_stop_and_all_stop_after_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = Ranks(monkeypatch)
    (step, saved), other = ranks.both(tmp_path, "1h", 180)
    assert (step, saved) == other
    assert saved == [step]
    assert 180 <= step < 180 + 34  # steps a second of the slower rank
    assert ranks.asked < 10


def test_ranks_save_after_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ranks(monkeypatch)
    (_, by_time), other = ranks.both(tmp_path, "2s")
    assert other == (250, by_time)
    assert 2 <= len(by_time) <= 3
    assert ranks.both(tmp_path, "100it") == [(250, [100, 200])] * 2  # not only when they ask
