"""What ranks average, without a second process."""

import pytest
import torch

from prunelab.core import distributed


def test_averages_are_summed_in_the_dtype_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []

    def all_reduce(flat: torch.Tensor) -> None:
        seen.append(flat.dtype)
        flat *= 2  # two ranks with the same values

    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)
    values = [torch.tensor([0.1, 0.2]), torch.tensor(0.3)]
    before = [value.clone() for value in values]
    distributed.average(values, torch.float64)
    assert seen == [torch.float64]
    assert all(torch.equal(value, own) for value, own in zip(values, before, strict=True))
