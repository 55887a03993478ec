"""Soft filter pruning: what is set to 0 after an epoch trains on, and only the last pruning is for good."""

from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from resumable import Resumable
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from prunelab.callbacks import Pruning, SoftPruning
from prunelab.channels.units import Filter
from prunelab.core.allocation import Uniform
from prunelab.core.granularity import Granularity, Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.criteria.norm import Norm

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
EPOCH = 4  # steps


class Foreign(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
        )
        self.example_input_array = torch.zeros(1, 1, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.5, momentum=0.9)


class Look(L.Callback):
    """Filters before each step, as it begins and as other callbacks leave it."""

    def __init__(self) -> None:
        self.seen: dict[int, Tensor] = {}

    def on_train_batch_start(self, trainer: L.Trainer, module: Foreign, *_: object) -> None:
        self.seen[trainer.global_step] = module.body[0].weight.detach().clone()


def parts(rate: float = 0.5, granularity: Granularity | None = None, start: Any = 0.75) -> list[L.Callback]:
    return [
        SoftPruning(),
        Pruning(Pruner(Norm(2), granularity or Filter(), Uniform(), Rounds(rate, start=start))),
    ]


@pytest.fixture
def fit() -> Callable[..., Foreign]:
    def run(callbacks: list[L.Callback], kind: type[Foreign] = Foreign, **options: Any) -> Foreign:
        g, module = torch.Generator().manual_seed(0), kind()
        data = TensorDataset(torch.randn(32, 1, 8, 8, generator=g), torch.randint(0, 3, (32,), generator=g))
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        L.Trainer(
            max_epochs=4, callbacks=callbacks, accelerator="cpu", enable_model_summary=False, **(quiet | options)
        ).fit(module, Resumable(data, 8))
        return module

    return run


def zero(filters: Tensor) -> Tensor:
    return (filters.flatten(1) == 0).all(1)


def test_after_each_epoch_the_smallest_filters_are_set_to_0_and_come_back(fit) -> None:
    before, after = Look(), Look()
    callbacks = parts()
    module = fit([before, *callbacks, after])
    for step in (EPOCH, 2 * EPOCH):
        filters = before.seen[step]
        smallest = filters.flatten(1).norm(dim=1).argsort()[:3]
        assert zero(after.seen[step]).nonzero().flatten().tolist() == sorted(smallest.tolist())
        assert torch.equal(after.seen[step][~zero(after.seen[step])], filters[~zero(after.seen[step])])
        assert not zero(after.seen[step + 1]).any()  # one step later all of them train
    assert not any(zero(after.seen[step]).any() for step in (0, 1, EPOCH - 1))
    kept = callbacks[1].pruner.keep["body.0.weight"]
    assert torch.equal(zero(after.seen[3 * EPOCH]), ~kept)
    assert torch.equal(zero(module.body[0].weight), ~kept)  # for good


def test_accumulated_batches_are_one_step(fit) -> None:
    look = Look()
    fit([*parts(), look], accumulate_grad_batches=2)
    assert zero(look.seen[EPOCH // 2]).sum() == 3
    assert not zero(look.seen[EPOCH // 2 + 1]).any()


def test_under_manual_optimization_an_epoch_ends_after_its_batches_not_after_as_many_steps(fit) -> None:
    class StepsTwice(Foreign):
        automatic_optimization = False

        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            for _ in range(2):
                self.optimizers().zero_grad()
                self.manual_backward(super().training_step(batch, batch_idx))
                self.optimizers().step()

    look = Look()
    fit([*parts(), look], StepsTwice)
    assert [step for step, filters in look.seen.items() if zero(filters).any()][:2] == [2 * EPOCH, 4 * EPOCH]


def test_at_rate_zero_training_is_that_without_it(fit) -> None:
    assert torch.equal(fit([]).body[0].weight, fit(parts(0.0)).body[0].weight)


def test_what_cannot_be_pruned_softly_is_refused_before_training(fit) -> None:
    with pytest.raises(ValueError, match="soft pruning is of channels, units are of kind Weight"):
        fit(parts(granularity=Weight()))
    with pytest.raises(ValueError, match="before the first step, no filter is pruned softly"):
        fit(parts(start=0.0))
    with pytest.raises(ValueError, match="Pruning comes before SoftPruning"):
        fit(parts()[::-1])
    with pytest.raises(ValueError, match="there is none: add it"):
        fit([SoftPruning()])
