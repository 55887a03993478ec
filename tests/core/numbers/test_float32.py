"""Float32 is exact where outputs are compared, and named as what it is where it is timed."""

from collections.abc import Iterator

import pytest
import torch
from torch import backends

from prunelab.core.numbers.float32 import float32_name, ieee_float32

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before, cudnn = torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before)
    backends.cudnn.allow_tf32 = cudnn


@pytest.fixture
def ampere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))


def test_within_the_block_nothing_is_rounded_and_after_it_all_is_as_before(ampere: None) -> None:
    torch.set_float32_matmul_precision("medium")
    before = [float32_name(device) for device in (CPU, GPU)]
    assert "float32" not in before
    with pytest.raises(KeyError), ieee_float32():
        assert [float32_name(device) for device in (CPU, GPU)] == ["float32", "float32"]
        raise KeyError
    assert [float32_name(device) for device in (CPU, GPU)] == before
    assert torch.get_float32_matmul_precision() == "medium"
    assert backends.cudnn.allow_tf32


def test_what_the_device_may_round_is_in_its_name(ampere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    backends.cudnn.allow_tf32 = False
    assert [float32_name(CPU), float32_name(GPU)] == ["float32", "float32"]
    torch.set_float32_matmul_precision("medium")
    assert float32_name(CPU) == "float32 (bfloat16 allowed in matmul)"
    torch.set_float32_matmul_precision("highest")
    backends.cudnn.allow_tf32 = True  # as torch begins
    assert float32_name(GPU).startswith("float32 (TF32 allowed in convolutions")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))  # has no TF32
    assert float32_name(GPU) == "float32"
