"""Averaging of buffers over ranks; tests/job/test_ddp.py has the ranks."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from prunelab.core import distributed
from prunelab.lit.buffer_sync import BufferSync


@pytest.mark.parametrize("world_size", [1, 2])
def test_floating_point_buffers_are_averaged_in_float64_on_several_ranks(
    world_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(distributed, "average", lambda tensors, dtype: calls.append((tensors, dtype)))
    norm = nn.BatchNorm2d(3)
    BufferSync().on_train_batch_end(SimpleNamespace(world_size=world_size), norm, None, None, 0)
    if world_size == 1:
        assert calls == []
        return
    [(tensors, dtype)] = calls
    assert dtype == torch.float64
    assert [id(tensor) for tensor in tensors] == [id(norm.running_mean), id(norm.running_var)]
