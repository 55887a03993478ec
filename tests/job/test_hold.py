"""`prune=hold` trains a pruned network further, with its zeros."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from killed import killed_at

Job = Callable[..., dict[str, Any]]


def test_zeros_stay_zeros_and_all_else_is_trained_to_the_same_bits_after_a_kill(
    usp: tuple[Path, dict[str, Any]], job: Job, tmp_path: Path
) -> None:
    folder, pruned = usp
    hold = ["prune=hold", f"pretrained={folder}", "epochs=2"]
    whole = job(*hold, folder=tmp_path / "whole")
    layers = whole["sparsity"]["layers"]
    assert {name: layer["zeros"] for name, layer in layers.items()} == {
        name: layer["removed"] for name, layer in pruned["sparsity"]["layers"].items()
    }
    for name in layers:
        before, after = (result["state_dict"][f"net.{name}"] for result in (pruned, whole))
        assert torch.equal(before == 0, after == 0)
        assert not torch.equal(before, after)
    assert whole["sparsity"]["attained"] == pruned["sparsity"]["attained"]
    assert whole["history"][-1]["sparsity"] == pytest.approx(0.5, abs=1e-4)

    with killed_at(11):  # in the second epoch
        job(*hold, folder=tmp_path / "killed")
    resumed = job(*hold, folder=tmp_path / "killed")["state_dict"]
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole["state_dict"].items())


def test_what_it_cannot_hold_is_refused(job: Job, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rate=0\.5: this method does not use it"):
        job("prune=hold", "rate=0.5")
    with pytest.raises(ValueError, match="nothing to hold: start from a pruned network"):
        job("prune=hold")
    assert not (tmp_path / "job" / "job.json").exists()  # before training
