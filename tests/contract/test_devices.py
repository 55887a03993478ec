"""Every method keeps to the device that it trains on, and makes the host wait a few times an epoch, in no step."""

from collections import Counter
from pathlib import Path

import lightning as L
import pytest
import torch
from killed import killed_at
from pretended_device import PretendedDevice, lightning_on
from short_job import HOLD, method_names, short_job
from torch import nn

from prunelab.channels import stopwatch
from prunelab.job import measurements
from prunelab.job import run as job_module
from prunelab.lit import datamodule
from prunelab.lit.history import History

FAST = ("none", "rigl", "sp", "synflow", "slimming")
FLOAT64 = ("fpgm", "synflow")  # one with a certificate, one without
ALL = [name for name in method_names() if name != HOLD]
METHODS = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ALL]
ON_A_MAC = [name if name in FLOAT64 else pytest.param(name, marks=pytest.mark.slow) for name in ALL]


class CountWaits(History):
    """Counts the waits between the hooks at the start of a batch, where masks may change, and those at its end.

    And those from the last batch of each epoch to the end of its record, with the evaluation.
    """

    def __init__(self, gpu: PretendedDevice) -> None:
        super().__init__()
        self.gpu, self.steps, self.waits, self.at_ends = gpu, 0, Counter(), list[int]()
        self.fetching = Counter()  # Pruning's own waits included
        self.fused: set[bool] = set()

    def on_train_batch_start(self, _: L.Trainer, __: L.LightningModule, batch: object, batch_idx: int) -> None:
        self.before = self.gpu.waits.copy()
        self.fetching += self.before - self.after if batch_idx else Counter()

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        self.steps += 1
        self.waits += self.gpu.waits - self.before
        self.fused |= {bool(group["fused"]) for group in trainer.optimizers[0].param_groups}
        self.after = self.gpu.waits.copy()

    def on_train_epoch_end(self, *args: L.Trainer) -> None:
        super().on_train_epoch_end(*args)
        self.at_ends.append((self.gpu.waits - self.after).total())


def short(method: str) -> list[str]:
    return [*(short_job(method) if method != "none" else ["prune=none"]), "model=narrow_dropout", "epochs=1"]


@pytest.mark.parametrize("method", METHODS)
def test_a_job_keeps_to_its_device_and_waits_only_at_ends_of_epochs(
    method: str, job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "BATCHES", (1,))
    if method == "none":
        monkeypatch.setitem(datamodule.EVALUATION_BATCH, "cuda", 1)  # 60 batches, of which none waits
    with lightning_on("cuda") as gpu:
        count = CountWaits(gpu)
        monkeypatch.setattr(job_module, "History", lambda *_: count)
        job(*short(method))
    assert count.steps >= 7
    assert not count.waits
    assert method != "none" or not count.fetching
    assert count.fused == {True}
    layers = [len(epoch.get("layers", ())) for epoch in count.epochs]
    assert count.at_ends[0] <= 80 + 10 * layers[0]  # Lightning makes its records
    assert all(waits <= 20 + 4 * n for waits, n in zip(count.at_ends[1:], layers[1:], strict=True))


def test_a_job_that_is_killed_with_a_fused_optimizer_ends_in_the_same_bits(job, tmp_path: Path) -> None:
    asked = ("prune=sp", "rate=0.5", "optim=adamw", "epochs=2")
    with lightning_on("cuda"):
        whole = job(*asked, folder=tmp_path / "whole")
        with killed_at(9):
            job(*asked)
        resumed = job(*asked)
    assert resumed["checkpoint"]["optimizer_states"][0]["param_groups"][0]["fused"]
    assert all(torch.equal(t, resumed["state_dict"][name]) for name, t in whole["state_dict"].items())


@pytest.mark.parametrize("method", ON_A_MAC)
def test_a_job_runs_on_a_mac_which_has_no_float64(method: str, job) -> None:
    with lightning_on("mps"):
        result = job(*short(method))
    assert result["device"] == "mps:0"
    assert not result["surgery"] or result["surgery"]["certificate"]["eval_float64"] < 1e-9


def test_latency_is_timed_on_the_training_device(job, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.device] = []

    def layer_seconds(nets: list[nn.Module], *_: object) -> list[dict[str, float]]:
        seen.extend(parameter.device for net in nets for parameter in net.parameters())
        return [{"": 0.0} | {name: float(p.numel()) for name, p in net.named_parameters()} for net in nets]

    def timings_within(nets: list[nn.Module], *_: object) -> list[list[float]]:
        return [[sum(table.values())] for table in layer_seconds(nets)]

    monkeypatch.setattr(stopwatch, "layer_seconds", layer_seconds)
    monkeypatch.setattr(stopwatch, "timings_within", timings_within)
    with lightning_on("cuda"):
        job("prune=sp", "rate=0.5", "budget=latency", "epochs=1")
    assert {device.type for device in seen} == {"cuda"}
