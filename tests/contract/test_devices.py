"""Every method keeps to the device that it trains on, and no step of training makes the host wait for it."""

from collections import Counter

import lightning as L
import pytest
import torch
from pretended_device import PretendedDevice, lightning_on
from short_job import HOLD, method_names, short_job
from torch import nn

from prunelab.channels import budget
from prunelab.job import measurements, preflight
from prunelab.job import run as job_module
from prunelab.lit.history import History

FAST = ("none", "rigl", "sp", "synflow", "slimming")
FLOAT64 = ("fpgm", "synflow")  # one with a certificate, one without
ALL = [name for name in method_names() if name != HOLD]
METHODS = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ALL]
ON_A_MAC = [name if name in FLOAT64 else pytest.param(name, marks=pytest.mark.slow) for name in ALL]


class CountWaits(History):
    """Counts the waits between the hooks at the start of a batch, where masks may change, and those at its end."""

    def __init__(self, gpu: PretendedDevice) -> None:
        super().__init__()
        self.gpu, self.steps, self.waits = gpu, 0, Counter()

    def on_train_batch_start(self, *_: object) -> None:  # after Pruning
        self.before = self.gpu.waits.copy()

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        self.steps += 1
        self.waits += self.gpu.waits - self.before


def short(method: str) -> list[str]:
    return [*(short_job(method) if method != "none" else ["prune=none"]), "model=narrow_dropout", "epochs=1"]


@pytest.mark.parametrize("method", METHODS)
def test_a_job_keeps_to_its_device_and_no_step_waits(method: str, job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "BATCHES", (1,))
    with lightning_on("cuda") as gpu:
        count = CountWaits(gpu)
        monkeypatch.setattr(job_module, "History", lambda: count)
        job(*short(method))
    assert count.steps >= 7
    assert not count.waits


@pytest.mark.parametrize("method", ON_A_MAC)
def test_a_job_runs_on_a_mac_which_has_no_float64(method: str, job) -> None:
    with lightning_on("mps"):
        result = job(*short(method))
    assert result["device"] == "mps:0"
    assert not result["surgery"] or result["surgery"]["certificate"]["eval_float64"] < 1e-9


def test_latency_is_rehearsed_and_timed_on_the_training_device(job, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.device] = []

    def timings_within(nets: list[nn.Module], *_: object) -> list[list[float]]:
        seen.extend(parameter.device for net in nets for parameter in net.parameters())
        return [[float(sum(parameter.numel() for parameter in net.parameters()))] for net in nets]

    monkeypatch.setattr(budget, "timings_within", timings_within)
    with lightning_on("cuda") as gpu:
        monkeypatch.setattr(preflight, "expected_device", lambda _: gpu.device)
        job("prune=sp", "rate=0.5", "budget=latency", "epochs=1")
    assert {device.type for device in seen} == {"cuda"}
