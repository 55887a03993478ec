"""Every file in conf/prune obeys the laws. A new method is tested by being there."""

from pathlib import Path
from typing import Any

import pytest
import torch

from prunelab.lit.classifier import Classifier
from prunelab.runs.folders import conf_dir

METHODS = sorted(path.stem for path in (conf_dir() / "prune").glob("*.yaml"))
PRUNING = [name for name in METHODS if name != "none"]
README = Path(__file__).parents[2] / "README.md"


def same_weights(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a["state_dict"].keys() == b["state_dict"].keys() and all(
        torch.equal(tensor, b["state_dict"][name]) for name, tensor in a["state_dict"].items()
    )


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in result.items() if k not in ("seconds", "state_dict", "checkpoint")}
    return kept | {"history": [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in result["history"]]}


@pytest.mark.parametrize("method", PRUNING)
def test_rate_is_met_exactly_and_what_is_masked_is_zero(method: str, job) -> None:
    result = job(f"prune={method}", "rate=0.6")
    sparsity, state = result["sparsity"], result["state_dict"]
    assert sparsity["removed"] == round(0.6 * sparsity["units"]) or per_layer(sparsity)
    assert result["history"][-1]["sparsity"] == pytest.approx(sparsity["attained"])
    keep = next(v for k, v in result["checkpoint"]["callbacks"].items() if k.startswith("Pruning"))["keep"]
    assert sum(int((~kept).sum()) for kept in keep.values()) == sparsity["removed"]
    for name, kept in keep.items():
        weight = state[name]
        assert kept.dtype == torch.bool
        assert not weight[~kept].any()
        assert weight[kept].any()


def per_layer(sparsity: dict[str, Any], rate: float = 0.6) -> bool:
    layers = [layer for layer in sparsity["layers"].values() if layer["units"]]
    return bool(layers) and all(layer["removed"] == round(rate * layer["units"]) for layer in layers)


@pytest.mark.parametrize("method", PRUNING)
def test_rate_zero_ends_in_the_bits_of_dense_training(method: str, job, tmp_path: Path) -> None:
    dense = job("prune=none", "model=keras_cnn", folder=tmp_path / "dense")
    pruned = job(f"prune={method}", "rate=0", "model=keras_cnn", folder=tmp_path / "zero")
    assert same_weights(dense, pruned)
    assert [e["test_loss"] for e in dense["history"]] == [e["test_loss"] for e in pruned["history"]]


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_job_ends_in_the_bits_of_one_that_was_not(method: str, job, tmp_path: Path, monkeypatch) -> None:
    """keras_cnn has dropout, so that random streams count as well."""
    asked = (f"prune={method}", f"rate={0 if method == 'none' else 0.6}", "model=keras_cnn")
    whole = job(*asked, folder=tmp_path / "whole")
    train = Classifier.training_step

    def dies_in_epoch_2(self, *args):
        if self.global_step == 11:
            raise KeyError("killed")
        return train(self, *args)

    monkeypatch.setattr(Classifier, "training_step", dies_in_epoch_2)
    with pytest.raises(KeyError, match="killed"):
        job(*asked, folder=tmp_path / "killed")
    assert not (tmp_path / "killed" / "result.json").exists()
    monkeypatch.undo()
    resumed = job(*asked, folder=tmp_path / "killed")
    assert same_weights(whole, resumed)
    assert without_times(whole) == without_times(resumed)


@pytest.mark.parametrize("method", PRUNING)
def test_clipping_and_accumulation_change_nothing_of_the_law(method: str, job) -> None:
    options = ("+trainer.accumulate_grad_batches=2", "+trainer.gradient_clip_val=0.5", "optim=adamw")
    result = job(f"prune={method}", "rate=0.6", *options)
    assert result["sparsity"]["removed"] == round(0.6 * result["sparsity"]["units"]) or per_layer(result["sparsity"])


@pytest.mark.parametrize("method", METHODS)
def test_a_method_tells_its_paper_or_purpose_first_and_stands_in_the_readme(method: str) -> None:
    first = (conf_dir() / "prune" / f"{method}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 12
    assert f"| `{method}` |" in README.read_text()


@pytest.mark.parametrize("part", ["criterion", "granularity", "allocation", "schedule"])
def test_every_part_on_the_menu_fits_into_a_method(part: str, job, tmp_path: Path) -> None:
    for option in (conf_dir() / "prune" / part).glob("*.yaml"):
        result = job("prune=usp", f"prune/{part}={option.stem}", "rate=0.5", folder=tmp_path / option.stem)
        sparsity = result["sparsity"]
        assert sparsity["removed"] == round(0.5 * sparsity["units"]) or per_layer(sparsity, 0.5)
