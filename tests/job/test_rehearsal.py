"""What would fail during a job is found before the first job of a command, and nothing is written."""

from pathlib import Path

import pytest
import torch
from compose import job_from
from torch import Tensor, nn

from prunelab.channels import stopwatch
from prunelab.job import rehearsal
from prunelab.job.rehearsal import rehearse


class Flat(nn.Module):
    """Flattens to a number of its own, which smaller networks do not have."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 8), nn.Linear(128, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).reshape(-1, 128))


FLAT = f"model._target_={__name__}.Flat"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optim.batch_size=141"], "batch_size=141: more than the 140 images; lower it"),
        (["prune=nm", "rate=0.3"], r"rate=0.3: groups of m=4 weights allow 0.25, 0.5, 0.75"),
        (["prune=sp", "rate=0.5", FLAT], "a copy without some of them does not run"),
        (["prune=sp", "rate=0.5", "budget=latency", FLAT], "a copy without some of them does not run"),
        (["prune=l1_filter", "rate=0.5", "pretrained=auto", FLAT], "a copy without some of them does not run"),
        (["trainer=gpu"], "trainer.accelerator=gpu: there is none here; use trainer=auto or trainer=cpu"),
        (["precision=16-mixed"], "precision=16-mixed on a CPU, where Lightning trains bfloat16 instead"),
        (["optim/schedule=cosine", "+optim.schedule.warmup=1.5"], "optim: warmup=1.5: expected a fraction in"),
        (["prune=usp", "rate=0.5", "epochs=1", "prune.pruning.pruner.schedule.end=9ep"], "'9ep' is step 63, but the"),
    ],
)
def test_a_job_that_would_fail_is_refused(
    overrides: list[str], message: str, composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopwatch, "layer_seconds", lambda *_: pytest.fail("timed, and not on the training device"))
    if "trainer=gpu" in overrides and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises((ValueError, RuntimeError), match=message):
        rehearse([job_from(composed(*overrides))], here=True)
    assert list(tmp_path.iterdir()) == []


def test_devices_of_other_machines_are_not_looked_for_here(composed) -> None:
    rehearse([job_from(composed("trainer=gpu", "precision=16-mixed"))], here=False)


def test_jobs_that_differ_in_rate_and_seed_are_rehearsed_once_at_the_highest_rate(composed, monkeypatch) -> None:
    rehearsed = []
    monkeypatch.setattr(rehearsal, "preflight", lambda job, *_, **__: rehearsed.append((job.method, job.rate)))
    rates = [("usp", 0.2), ("usp", 0.8), ("usp", 0.4), ("nm", 0.5), ("nm", 0.25)]
    chosen = [(f"prune={method}", f"rate={rate}", f"seed={seed}") for method, rate in rates for seed in (0, 1)]
    jobs = [job_from(composed(*overrides)) for overrides in chosen]
    rehearse(jobs, here=True)
    assert rehearsed == [("usp", 0.8), ("nm", 0.5)]
    with pytest.raises(ValueError, match=r"rate=0.3: groups of m=4"):  # though not the highest
        rehearse([*jobs, job_from(composed("prune=nm", "rate=0.3"))], here=True)


def test_settings_of_training_are_checked_for_each_job_on_one_network(composed, monkeypatch) -> None:
    rehearsed = []
    monkeypatch.setattr(rehearsal, "preflight", lambda job, *_, **__: rehearsed.append(job.rate))
    settings = [f"optim.optimizer.lr={lr}" for lr in (0.1, 0.2)] + ["optim.label_smoothing=0.1", "augment.pad=1"]
    jobs = [job_from(composed("prune=usp", f"rate={rate}", one)) for one in settings for rate in (0.2, 0.8)]
    rehearse(jobs, here=True)
    assert rehearsed == [0.8]
    warmup = ("+optim.schedule.warmup=1.5", "optim: warmup=1.5")
    for broken, message in (warmup, ("optim.batch_size=141", "batch_size=141")):
        with pytest.raises(ValueError, match=message):
            rehearse([*jobs, job_from(composed("prune=usp", "rate=0.2", broken))], here=True)
