"""The progress bar counts epochs from 1 and names what they do."""

from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import RichProgressBar

from prunelab.core.allocation import Uniform
from prunelab.core.granularity import Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic, Rounds, Schedule
from prunelab.core.time import Progress
from prunelab.criteria.norm import Norm
from prunelab.lit.progress import PhaseBar, phase

D, P, R = "dense", "pruning", "retraining"


def pruner(schedule: Schedule) -> Pruner:
    return Pruner(Norm(p=1), Weight(), Uniform(), schedule)


@pytest.mark.parametrize(
    ("schedule", "phases"),
    [
        (Cubic(rate=0.5, start=0.25, end=0.5), [D, D, P, P, P, R, R, R]),  # the last pruning is before the fifth
        (Cubic(rate=0.5, start=0.0, end=0.5), [P, P, P, P, P, R, R, R]),
        (Rounds(rate=0.5, start="4ep", training="4ep"), [D, D, D, D, P, R, R, R]),
        (Rounds(rate=0.5, n=2, start="2ep", training="3ep"), [D, D, P, R, R, P, R, R]),
        (Cubic(rate=0.0, start=0.25, end=0.5), [D] * 8),
    ],
)
def test_the_phase_of_each_epoch(schedule: Schedule, phases: list[str]) -> None:
    assert [phase(pruner(schedule), Progress(10 * epoch, 80, 10)) for epoch in range(8)] == phases


def test_the_bar_counts_from_one() -> None:
    bar = PhaseBar([pruner(Cubic(rate=0.5, start=0.5, end=0.75))])
    bar._trainer = SimpleNamespace(max_epochs=8, num_training_batches=10, sanity_checking=False)
    assert bar._get_train_description(0).strip() == "epoch 1 of 8, dense"
    assert bar._get_train_description(7).strip() == "epoch 8 of 8, retraining"


def test_a_terminal_that_is_gone_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(RichProgressBar, "refresh", gone)
    monkeypatch.setattr(RichProgressBar, "_stop_progress", gone)
    bar = PhaseBar()
    bar.refresh()
    bar._stop_progress()
