"""Averaging of buffers over ranks; tests/job/test_ddp.py has the ranks."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

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


def test_an_average_before_it_is_refused() -> None:
    """It would take the running statistics of its own rank."""
    sync, ema = BufferSync(), EMAWeightAveraging()
    sync.setup(SimpleNamespace(callbacks=[sync, ema]), nn.Linear(1, 1), "fit")
    with pytest.raises(ValueError, match="EMAWeightAveraging comes before BufferSync, .*: list BufferSync first"):
        sync.setup(SimpleNamespace(callbacks=[ema, sync]), nn.Linear(1, 1), "fit")


class CountOperations(TorchDispatchMode):
    """Counts what is no view."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def test_the_operations_of_an_average_do_not_grow_with_the_number_of_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda flat: flat.mul_(3))  # the other rank has twice as much
    buffers = [torch.randn(3, 2, 1, 1).to(memory_format=torch.channels_last) for _ in range(50)]
    before = [buffer.clone() for buffer in buffers]
    with CountOperations() as operations:
        distributed.average(buffers, torch.float64)
    assert all(torch.equal(now, (3 * was.double() / 2).float()) for now, was in zip(buffers, before, strict=True))
    assert operations.count < 10
