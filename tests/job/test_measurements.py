"""The costs in result.json are those of the network in the job's folder and of the unpruned one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from killed import killed_at
from torch import nn

import prunelab
from prunelab.channels.plan import Plan
from prunelab.job import measurements, peak_memory
from prunelab.job.measurements import BATCHES, costs, survivor_masks
from prunelab.job.rounds import read_masks
from prunelab.models.registry import build

Job = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("method", ["usp", "sp"])
def test_bytes_are_those_of_the_files(method: str, job: Job, tmp_path: Path) -> None:
    cost = job(f"prune={method}", "rate=0.5", "model=resnet8", "epochs=1")["cost"]
    model, net = tmp_path / "job" / "model.safetensors", build("cifar_resnet.resnet8", {})
    assert cost["pruned"]["file_bytes"] == model.stat().st_size < 0.7 * cost["dense"]["file_bytes"]
    assert cost["dense"]["file_bytes"] == len(safetensors.torch.save(net.state_dict()))
    for side, network in (("dense", net), ("pruned", prunelab.load(model))):
        assert cost[side]["memory_bytes"] == sum(t.nbytes for t in network.state_dict().values())
        assert cost[side]["params"] == sum(p.numel() for p in network.parameters())
    assert cost["pruned"]["nonzero"] == sum(int(p.count_nonzero()) for p in network.parameters())
    assert (cost["pruned"]["memory_bytes"] < cost["dense"]["memory_bytes"]) == (method == "sp")


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 32), (torch.bfloat16, 16)])
def test_counts_are_those_of_a_profile_in_the_precision_of_the_networks(
    dtype: torch.dtype, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "BATCHES", (1,))  # 128 images take a CPU seconds in bfloat16
    unpruned, net = (build("cifar_resnet.resnet8", {}).to(dtype) for _ in range(2))
    with torch.no_grad():
        net.fc.weight.zero_()
    (file := tmp_path / "model.safetensors").write_bytes(b"12345")
    example = torch.zeros(1, 3, 32, 32)
    dense, pruned, timed = costs(unpruned, net, example, file, torch.device("cpu"))
    cost = {"dense": dense.to_json(), "pruned": pruned.to_json(), "timed": timed}
    profile = prunelab.profile(net, example, dense=unpruned, batches=(1,), rounds=2)
    assert profile.dense is not None
    assert cost["dense"].items() >= {
        "params": profile.dense.params, "nonzero": profile.dense.params, "macs": profile.dense.macs,
        "bops": profile.dense.bops, "memory_bytes": profile.dense.bytes,
    }.items()  # fmt: skip
    assert cost["pruned"].items() >= {
        "params": profile.net.params, "nonzero": profile.net.nonzero, "macs": profile.net.effective_macs,
        "bops": profile.net.effective_bops, "memory_bytes": profile.net.bytes, "file_bytes": 5,
    }.items()  # fmt: skip
    assert cost["dense"]["macs"] == 12_239_488
    assert cost["pruned"]["macs"] == cost["dense"]["macs"] - 640
    assert all(cost[side]["bops"] == bits * bits * cost[side]["macs"] for side in ("dense", "pruned"))
    assert cost["timed"]["precision"] == f"{str(dtype).removeprefix('torch.')}, not compiled"


def test_each_batch_size_is_timed_for_both_networks(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "BATCHES", BATCHES)  # which the fixture quick_latency has replaced
    result = job("prune=sp", "rate=0.5", "epochs=1")
    assert result["cost"]["timed"]["device"] == "cpu"
    assert result["cost"]["timed"]["threads"] == torch.get_num_threads()
    for side in ("dense", "pruned"):
        latency = result["cost"][side]["latency"]
        assert list(latency) == ["1", "128"]
        assert all(0 < t["low"] <= t["median"] <= t["high"] for t in latency.values())
        assert latency["1"]["median"] < latency["128"]["median"]
    assert result["peak_memory"] > 0


def test_the_masks_of_a_masked_network_are_those_of_its_pruner(usp: tuple[Path, dict[str, Any]]) -> None:
    folder, result = usp
    masks = read_masks(folder / "masks" / "last.safetensors")
    pruner = next(v for k, v in result["checkpoint"]["callbacks"].items() if k.startswith("Pruning"))
    assert masks.keys() == {name.removeprefix("net.") for name in pruner["keep"]}
    for name, kept in pruner["keep"].items():
        assert torch.equal(masks[name.removeprefix("net.")], kept)


def test_bfloat16_in_software_is_warned_of(job: Job, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("prunelab.lit.device._bfloat16_times", lambda: 11.4)
    job("prune=none", "model=lenet300", "epochs=1", "precision=bf16-mixed")
    assert "precision=bf16-mixed: a convolution takes 11 times as long here" in caplog.text


def test_what_is_not_counted_is_in_the_costs_and_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(x.flatten(2).transpose(1, 2))[0][:, -1]

    (file := tmp_path / "model.safetensors").write_bytes(b"12345")
    dense, pruned, _ = costs(Recurrent(), Recurrent(), torch.zeros(1, 3, 4, 4), file, torch.device("cpu"))
    left_out = "any products with lstm.weight_ih_l0, lstm.weight_hh_l0"
    assert dense.to_json()["left_out"] == pruned.left_out == (left_out,)
    assert f"MACs and BOPs are without {left_out}" in caplog.text
    counted, _, _ = costs(nn.Conv2d(3, 1, 1), nn.Conv2d(3, 1, 1), torch.zeros(1, 3, 4, 4), file, torch.device("cpu"))
    assert "left_out" not in counted.to_json()


def test_the_masks_of_a_shrunk_network_have_the_shapes_of_the_unpruned_one() -> None:
    unpruned = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 2, 1), nn.Sequential(nn.Conv2d(2, 2, 1)))
    small = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.Identity())
    with torch.no_grad():
        small[0].weight[:] = torch.tensor([[1.0, 0.0], [1.0, 1.0]])[..., None, None]
    kept = torch.tensor([0, 2])
    masks = survivor_masks(
        unpruned, small, Plan({("0.weight", 0): kept, ("1.weight", 1): kept}, blocks={"2": "Identity"})
    )
    assert masks["0.weight"][..., 0, 0].tolist() == [[True, False], [False, False], [True, True]]
    assert masks["1.weight"][..., 0, 0].tolist() == [[True, False, True]] * 2
    assert not masks["2.0.weight"].any()


def test_the_history_has_the_sparsity_of_each_layer(usp: tuple[Path, dict[str, Any]]) -> None:
    result = usp[1]
    layers = result["sparsity"]["layers"]
    assert result["history"][-1]["layers"] == {
        name.removesuffix(".weight"): pytest.approx(layer["removed"] / layer["units"], abs=1e-6)
        for name, layer in layers.items()
    }


@pytest.mark.parametrize("peaks", [(100, 30), (30, 100)])
def test_peak_memory_is_that_of_all_attempts(
    peaks: tuple[int, int], job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that resumes after surgery trains a small network."""
    overrides = ("prune=usp", "rate=0.5", "every=1it")
    monkeypatch.setattr(peak_memory, "training_peak", lambda *_: peaks[0])
    with killed_at(4):
        job(*overrides)
    monkeypatch.setattr(peak_memory, "training_peak", lambda *_: peaks[1])
    assert job(*overrides)["peak_memory"] == 100


def test_peak_memory_is_unknown_after_a_checkpoint_that_does_not_say(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ("prune=usp", "rate=0.5", "every=1it")
    with monkeypatch.context() as old, killed_at(4):
        old.setattr(peak_memory.PeakMemory, "state_dict", lambda _: {})
        job(*overrides)
    assert job(*overrides)["peak_memory"] is None
