"""A checkpoint is written whole, and read without running what is in it."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from prunelab.lit.checkpoints import Checkpoints, WholeCheckpointIO, is_whole, newest


def test_a_checkpoint_comes_back_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    io, path = WholeCheckpointIO(), tmp_path / "deep" / "last.ckpt"
    io.save_checkpoint({"x": torch.arange(3), "n": 2}, path)
    assert torch.equal(io.load_checkpoint(path)["x"], torch.arange(3))
    assert list(path.parent.iterdir()) == [path]


def test_a_save_that_fails_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    io, path = WholeCheckpointIO(), tmp_path / "last.ckpt"
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
        WholeCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert not (tmp_path / "ran").exists()


def test_the_last_two_are_kept_and_a_damaged_newest_is_passed_over(tmp_path: Path, caplog) -> None:
    io, path = WholeCheckpointIO(), tmp_path / "last.ckpt"
    assert newest(tmp_path) is None
    for step in range(3):
        io.save_checkpoint({"step": step, "x": torch.arange(1000)}, path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert newest(tmp_path) == path
    path.write_bytes(path.read_bytes()[:-100])
    found = newest(tmp_path)
    assert found is not None
    assert io.load_checkpoint(found)["step"] == 1
    assert "last.ckpt is damaged" in caplog.text
    assert (tmp_path / "damaged.ckpt").exists()
    io.save_checkpoint({"step": 2}, path)  # the damaged one replaces nothing
    assert io.load_checkpoint(tmp_path / "previous.ckpt")["step"] == 1


def test_no_flipped_bit_is_an_error_and_in_the_contents_it_is_damage(tmp_path: Path) -> None:
    io, path = WholeCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"x": torch.arange(100)}, path)
    assert is_whole(path)
    content = path.read_bytes()
    at = content.index(torch.arange(100).numpy().tobytes())
    for place in range(len(content)):
        for bit in (1, 128):
            flipped = bytearray(content)
            flipped[place] ^= bit
            path.write_bytes(flipped)
            if is_whole(path):
                assert not at <= place < at + 800, place
                io.load_checkpoint(path)


class Trainer(SimpleNamespace):
    """What Checkpoints asks of one: an epoch of 7 batches that are accumulated by 3; it notes where it saves."""

    def __init__(self, others: bool = False) -> None:
        strategy = SimpleNamespace(reduce_boolean_decision=lambda mine, all: mine or others)
        super().__init__(
            num_training_batches=7, accumulate_grad_batches=3, global_step=0, current_epoch=0, max_epochs=2,
            strategy=strategy, saved=[],
        )  # fmt: skip

    def save_checkpoint(self, path: Path) -> None:
        self.saved.append(self.batch)

    def run(self, callback: Checkpoints, seconds: float = 0.0) -> list[int]:
        callback.on_train_start(self, None)
        for self.batch in range(7):
            self.global_step += self.batch % 3 == 2 or self.batch == 6
            time.sleep(seconds)
            callback.on_train_batch_end(self, None, None, None, self.batch)
        callback.on_train_epoch_end(self, None)
        return self.saved


def checkpoints(tmp_path: Path, every: str, asked: bool = False) -> Checkpoints:
    return Checkpoints(tmp_path, every, lambda: asked, KeyboardInterrupt)


def test_checkpoints_lie_between_optimizer_steps_and_the_last_where_the_epoch_ends(tmp_path: Path) -> None:
    assert Trainer().run(checkpoints(tmp_path, "1it")) == [2, 5, 6]
    assert Trainer().run(checkpoints(tmp_path, "2it")) == [5]
    assert Trainer().run(checkpoints(tmp_path, "1ep")) == [6]


def test_checkpoints_come_when_the_time_has_passed(tmp_path: Path) -> None:
    assert Trainer().run(checkpoints(tmp_path, "0.01s"), seconds=0.02) == [2, 5, 6]
    assert Trainer().run(checkpoints(tmp_path, "1h")) == []


def test_one_rank_that_is_asked_to_stop_ends_all_with_a_checkpoint(tmp_path: Path) -> None:
    trainer = Trainer(others=True)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(checkpoints(tmp_path, "1h"))
    assert trainer.saved == [2]
