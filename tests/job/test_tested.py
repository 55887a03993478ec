"""The sparsity in result.json is that of the tensors that were tested."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from narrow import resnet8

import prunelab
from prunelab.core.pruner import Pruner

Job = Callable[..., dict[str, Any]]
EMA = ["+prune.ema._target_=lightning.pytorch.callbacks.EMAWeightAveraging", "+prune.ema.decay=0.9"]
USP = ["prune=usp", "rate=0.5"]


def test_a_job_that_averages_is_pruned_tested_and_saved_as_one_network(job: Job, tmp_path: Path) -> None:
    first = job(*USP, *EMA)
    model = tmp_path / "job" / "model.safetensors"
    state = first["state_dict"]  # the average; Lightning keeps both
    saved = prunelab.load(model, into=resnet8()).state_dict()
    assert not torch.equal(state["net.conv1.weight"], first["checkpoint"]["current_model_state"]["net.conv1.weight"])
    assert all(torch.equal(tensor, state[f"net.{name}"]) for name, tensor in saved.items())
    for name, layer in first["sparsity"]["layers"].items():
        assert int((saved[name] == 0).sum()) == layer["zeros"] == layer["removed"] == round(0.5 * layer["units"])
    (tmp_path / "job" / "result.json").unlink()
    model.unlink()
    again = job(*USP, *EMA)  # from the last checkpoint, with nothing left to train
    assert again["sparsity"] == first["sparsity"]
    assert all(torch.equal(t, saved[name]) for name, t in prunelab.load(model, into=resnet8()).state_dict().items())


def test_a_job_whose_masked_weights_are_not_0_fails(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pruner, "apply_to_copy", lambda *_: None)  # so that the average stays dense
    with pytest.raises(RuntimeError, match=r"net\.conv1\.weight: \d+ of \d+ masked weights are not 0, so the sparsity"):
        job(*USP, *EMA)
    assert not (tmp_path / "job" / "result.json").exists()


class Late(L.Callback):
    """Changes the network after its test."""

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        pl_module.net.fc.weight.data.zero_()


def test_a_network_that_was_not_the_tested_one_has_no_result(job: Job, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"net\.fc\.weight had 160 weights that are not 0 .*, and has 0: another"):
        job(*USP, "prune.pruning.pruner.skip=[net.fc.*]", f"+prune.late._target_={__name__}.Late")
    with pytest.raises(ValueError, match="no epoch has tested: use WeightAveraging"):
        swa = "lightning.pytorch.callbacks.StochasticWeightAveraging"
        job(*USP, f"+prune.swa={{_target_: {swa}, swa_lrs: 0.01}}", folder=tmp_path / "swa")
