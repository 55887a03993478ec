"""The pretended device refuses and counts what a real one would, and nothing else."""

import lightning as L
import pytest
import torch
from lightning.pytorch.accelerators import CUDAAccelerator
from pretended_device import PretendedDevice, is_tagged
from torch import nn


def test_what_is_made_of_its_tensors_is_on_it_gradients_and_optimizer_state_too() -> None:
    with PretendedDevice("cuda") as gpu:
        net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to("cuda")
        optimizer = torch.optim.AdamW(net.parameters())
        gpu.waits.clear()
        net(torch.ones(5, 3, device="cuda")).square().mean().backward()
        optimizer.step()
        assert not gpu.waits
        assert {p.device for p in net.parameters()} == {torch.device("cuda", 0)}
        moments = [state["exp_avg"] for state in optimizer.state.values()]
        assert all(is_tagged(x) for x in [*moments, *(p.grad for p in net.parameters())])
        assert not is_tagged(torch.ones(2))


def test_tensors_on_two_devices_do_not_meet() -> None:
    with PretendedDevice("cuda"), pytest.raises(RuntimeError, match="tensors on two devices"):
        torch.ones(2, device="cuda") + torch.ones(2)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: torch.tensor(1.0, device=x.device),
    ],
)
def test_where_the_host_would_wait_is_counted_by_line(read) -> None:
    with PretendedDevice("cuda") as gpu:
        x = torch.ones(2, device="cuda")
        assert not gpu.waits
        read(x)
    assert all(line.startswith("tests/test_pretended_device.py:") for _, line in gpu.waits)
    assert gpu.waits


def test_a_mac_has_no_float64() -> None:
    with PretendedDevice("mps"):
        x = torch.ones(2, device="mps")
        assert x.device.type == "mps"
        for make in (lambda: x.double(), lambda: torch.ones(2, dtype=torch.float64, device="mps")):
            with pytest.raises(TypeError, match="float64"):
                make()
        assert x.cpu().double().dtype == torch.float64


def test_a_trainer_on_the_cpu_of_a_machine_with_a_gpu_fails_no_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: True)
    L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)


def test_a_fused_optimizer_takes_no_gradient_in_other_strides() -> None:
    with PretendedDevice("cuda"):
        weight = nn.Parameter(torch.zeros(2, 3, device="cuda"))
        optimizer = torch.optim.SGD([weight], fused=True)
        weight.grad = torch.ones(3, 2, device="cuda").T
        with pytest.raises(RuntimeError, match="must have one layout"):
            optimizer.step()
        weight.grad = torch.ones(2, 3, device="cuda")
        optimizer.step()
