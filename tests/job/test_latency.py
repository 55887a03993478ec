"""A job whose budget is latency decides by one measurement, also after it was killed."""

from pathlib import Path

import pytest
import torch
from killed import killed_at
from torch import nn

from prunelab.channels import stopwatch

ASKED = ("prune=sp", "prune/allocation=global", "rate=0.5", "budget=latency", "epochs=2", "every=1it")


def measure(monkeypatch: pytest.MonkeyPatch, dear: str, timed: list[str]) -> None:
    """A weight takes a second for each of its elements, and 50 where `dear` is in its name."""

    def layer_seconds(nets: list[nn.Module], *_: object) -> list[dict[str, float]]:
        timed.append(dear)
        named = [net.named_parameters() for net in nets]
        return [{"": 0.0} | {name: p.numel() * (50.0 if dear in name else 1.0) for name, p in ps} for ps in named]

    monkeypatch.setattr(stopwatch, "layer_seconds", layer_seconds)


@pytest.mark.parametrize("step", [3, 9])  # while the rate rises, and after it
def test_a_resumed_job_decides_by_what_was_measured_before(
    step: int, job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[str] = []
    measure(monkeypatch, "layer1", timed)
    whole = job(*ASKED, folder=tmp_path / "whole")
    with killed_at(step):
        job(*ASKED)
    measure(monkeypatch, "layer3", timed)
    resumed = job(*ASKED)
    assert set(timed) == {"layer1"}
    assert whole["budget"] == resumed["budget"]
    assert all(torch.equal(t, resumed["state_dict"][name]) for name, t in whole["state_dict"].items())
    other = job(*ASKED, folder=tmp_path / "other")
    assert any(t.shape != other["state_dict"][name].shape for name, t in whole["state_dict"].items())
