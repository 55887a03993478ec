"""The device of a run."""

import pytest
import torch
from pretended_device import PretendedDevice
from torch import nn

from prunelab.lit.device import (
    COMPILED_STEPS,
    check_devices,
    choose_kernels,
    compiles_well,
    fuse,
    warn_of_slow_bfloat16,
)

SLOW = "precision=bf16-mixed: a convolution takes 11 times as long here as with precision=32-true"


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)


def test_more_devices_than_gpus_are_refused(two_gpus) -> None:
    with pytest.raises(ValueError, match="trainer.devices=3: there are 2 GPUs; lower it"):
        check_devices("auto", 3, "auto")
    check_devices("auto", 2, "auto")
    check_devices("cpu", 3, "auto")


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(ValueError, match=f"trainer.accelerator={accelerator}: there is none here"):
        check_devices(accelerator, 1, "auto")


def test_float16_on_a_cpu_which_trains_bfloat16_is_refused(two_gpus) -> None:
    with pytest.raises(ValueError, match="precision=16-mixed on a CPU, where Lightning trains bfloat16"):
        check_devices("cpu", 1, "16-mixed")
    check_devices("cpu", 1, "bf16-mixed")
    check_devices("gpu", 1, "16-mixed")


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "mps"])
def test_float16_on_a_mac_is_not_taken_for_one_on_a_cpu(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    check_devices(accelerator, 1, "16-mixed")
    with pytest.raises(ValueError, match="precision=16-mixed on a CPU"):
        check_devices("cpu", 1, "16-mixed")


@pytest.mark.parametrize(
    ("accelerator", "precision", "times", "warned"),
    [
        ("cpu", "bf16-mixed", 11.4, [SLOW]),
        ("auto", "bf16-mixed", 11.4, [SLOW]),
        ("cpu", "bf16-mixed", 1.3, []),
        ("cpu", "32-true", 11.4, []),
        ("mps", "bf16-mixed", 11.4, []),
    ],
)
def test_a_cpu_that_computes_bfloat16_in_software_is_warned_of(
    accelerator: str, precision: str, times: float, warned: list[str], monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: accelerator == "mps")
    monkeypatch.setattr("prunelab.lit.device._bfloat16_times", lambda: times)
    warn_of_slow_bfloat16(accelerator, precision)
    assert caplog.messages == warned


def test_of_a_gpu_the_cpu_is_not_timed(two_gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunelab.lit.device._bfloat16_times", lambda: pytest.fail("timed"))
    for accelerator in ("auto", "gpu"):
        warn_of_slow_bfloat16(accelerator, "bf16-mixed")


def test_a_gpu_compiles_only_for_as_many_steps_as_regain_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *_: (8, 0))
    gpu = torch.device("cuda")
    assert not compiles_well(gpu, COMPILED_STEPS - 1)
    assert compiles_well(gpu, COMPILED_STEPS)
    assert not compiles_well(torch.device("cpu"), COMPILED_STEPS)


def test_kernels_are_chosen_by_timing_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.set_float32_matmul_precision", lambda _: None)
    for kind in ("cpu", "cuda"):
        monkeypatch.setattr("torch.backends.cudnn.benchmark", False)
        choose_kernels(torch.device(kind))
        assert torch.backends.cudnn.benchmark == (kind == "cuda")


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_is_fused_on_a_gpu_unless_it_was_told_how_and_never_on_a_cpu(kind) -> None:
    net = nn.Linear(2, 1)
    before = (optimizer := kind(net.parameters())).state_dict()
    fuse(optimizer)
    assert optimizer.state_dict() == before
    with PretendedDevice("cuda"):
        net = nn.Linear(2, 1).to("cuda")
        for given, fused in ({}, True), ({"foreach": True}, None), ({"fused": False}, False):
            fuse(optimizer := kind(net.parameters(), **given))
            assert optimizer.param_groups[0]["fused"] is fused
            assert not getattr(optimizer, "_step_supports_amp_scaling", False)  # Lightning would refuse clipping
        fuse(other := torch.optim.RMSprop(net.parameters()))
        assert "fused" not in other.param_groups[0]
