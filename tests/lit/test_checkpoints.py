"""A checkpoint is written whole, and read without running what is in it."""

from pathlib import Path

import pytest
import torch

from prunelab.lit.checkpoints import WholeCheckpointIO


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
