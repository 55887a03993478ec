"""Records of rounds: accuracies, and files of masks."""

from pathlib import Path

import pytest
import torch

from prunelab.job.rounds import read_masks, write_masks
from prunelab.store.identity import content


@pytest.mark.parametrize("shape", [(3,), (8,), (5, 3, 3, 3), (1, 1)])
def test_masks_round_trip(shape: tuple[int, ...], tmp_path: Path) -> None:
    masks = {"a.weight": torch.rand(shape) < 0.5, "b": torch.ones(2, dtype=torch.bool)}
    write_masks(tmp_path / "masks.safetensors", masks)
    loaded = read_masks(tmp_path / "masks.safetensors")
    assert loaded.keys() == masks.keys()
    assert all(torch.equal(loaded[name], mask) for name, mask in masks.items())
    assert loaded["b"].dtype == torch.bool


def test_the_format_of_a_mask_file_is_fixed(tmp_path: Path) -> None:
    """Files of earlier versions stay readable."""
    masks = {"a": torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 1, 1]], dtype=torch.bool), "b": torch.ones(2).bool()}
    header = (
        rb'{"__metadata__":{"shapes":"{\"a\": [2, 5], \"b\": [2]}"},'
        b'"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}'
    )
    write_masks(tmp_path / "masks", masks)
    assert (tmp_path / "masks").read_bytes()[8:] == header.ljust(-(-len(header) // 8) * 8) + b"\xb0\xc0\xc0"
    assert all(torch.equal(mask, masks[name]) for name, mask in read_masks(tmp_path / "masks").items())


def test_each_round_has_its_own_accuracy_sparsity_and_masks(job, tmp_path: Path) -> None:
    result = job("prune=lottery", "rate=0.5", "rewind=1ep", "epochs=2")  # 0.2, 0.36, 0.488, 0.5; an epoch each
    assert len(result["history"]) == 2 + 4
    assert [r["round"] for r in result["rounds"]] == [0, 1, 2, 3, 4]
    assert [r["epoch"] for r in result["rounds"]] == [2, 3, 4, 5, 6]
    assert [r["sparsity"] for r in result["rounds"]] == pytest.approx([0, 0.2, 0.36, 0.488, 0.5], abs=2e-4)
    for entry in result["rounds"]:
        assert entry["test_acc"] == result["history"][entry["epoch"] - 1]["test_acc"]
    before = None
    for entry in result["rounds"][1:]:
        file = tmp_path / "job" / "masks" / entry["masks"]
        assert content(file) == entry["sha256"]
        masks = read_masks(file)
        removed = sum(int((~mask).sum()) for mask in masks.values())
        assert removed / sum(mask.numel() for mask in masks.values()) == pytest.approx(entry["sparsity"])
        assert before is None or not any((masks[name] & ~before[name]).any() for name in masks)
        before = masks
    assert before is not None
    for name, mask in before.items():
        assert not result["state_dict"][name][~mask].any()


def test_methods_without_rounds_have_none(usp) -> None:
    folder, result = usp
    assert result["rounds"] == []
    assert not list((folder / "masks").glob("round-*"))


def test_fine_tuning_uses_the_low_constant_rate_and_rewinding_the_rates_of_training(job, tmp_path: Path) -> None:
    tuned = job("prune=magnitude_layer", "rate=0.5", "rounds=2", folder=tmp_path / "tuned")
    rates = [e["lr"] for e in tuned["history"]]
    assert rates[3:] == pytest.approx([0.001] * 6)
    again = job("prune=magnitude_layer", "retrain=lr_rewind", "rate=0.5", "rounds=2", folder=tmp_path / "again")
    assert [e["lr"] for e in again["history"]] == rates[:3] * 3
    assert [e["sparsity"] for e in again["history"]] == pytest.approx(
        [0] * 3 + [1 - 0.5**0.5] * 3 + [0.5] * 3, abs=1e-3
    )


def test_right_after_pruning_the_averaged_network_is_tested_too(job) -> None:
    """As at the end of every epoch; with a decay of 1 the average is the network before its first step."""
    result = job("prune=finetune", "rate=0.01", "epochs=2", "callbacks=ema", "callbacks.ema.decay=1.0")
    assert len({entry["test_acc"] for entry in result["rounds"]}) == 1
    assert result["rounds"][1]["begins_test_acc"] == pytest.approx(result["rounds"][0]["test_acc"])


def test_right_after_pruning_the_average_has_its_zeros_too(job, monkeypatch) -> None:
    def zeros(module: torch.nn.Module, _: object) -> float:
        weights = torch.cat([p.flatten() for p in module.parameters() if p.ndim > 1])
        return weights.eq(0).float().mean().item()

    monkeypatch.setattr("prunelab.job.rounds.accuracy", zeros)
    result = job("prune=finetune", "rate=0.8", "epochs=2", "callbacks=ema", "callbacks.ema.decay=1.0")
    assert result["rounds"][1]["begins_test_acc"] == pytest.approx(0.8, abs=1e-3)
