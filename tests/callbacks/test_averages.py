"""Masks reach the averaged copies that other callbacks put in the network's place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging
from resumable import Resumable
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import TensorDataset

from prunelab.callbacks import Binarize, Pruning, Rewind, ScalingFactors, SoftPruning
from prunelab.callbacks.scoring import progress
from prunelab.channels.units import Filter
from prunelab.core.allocation import Uniform
from prunelab.core.granularity import Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic, Rounds, Schedule
from prunelab.core.time import Progress
from prunelab.criteria.norm import Norm

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
]


class Foreign(L.LightningModule):
    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        bn = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3), bn, nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
        self.example_input_array = torch.zeros(1, 1, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None: ...

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


class Watch(L.Callback):
    """Whether what is validated and what is saved are pruned, and the rate at each step."""

    def __init__(self, pruner: Pruner) -> None:
        self.pruner, self.looks, self.rates = pruner, 0, list[float]()

    def look(self, state: dict[str, Tensor]) -> None:
        for name, mask in self.pruner.masks.items():
            assert not state[name][~mask].any(), name
            self.looks += 1

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        self.rates.append(self.pruner.rate)

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        self.look(pl_module.state_dict())

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict) -> None:
        self.look(checkpoint["state_dict"])


def pruning(granularity: Any = None, schedule: Schedule | None = None) -> Pruning:
    schedule = schedule or Cubic(rate=0.75, end=0.9, every="1it")
    return Pruning(Pruner(Norm(), granularity or Weight(), Uniform(), schedule))


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., L.LightningModule]:
    def run(callbacks: list[L.Callback], module: L.LightningModule | None = None, ckpt: Path | None = None) -> Any:
        g = torch.Generator().manual_seed(0)
        data = TensorDataset(torch.randn(64, 1, 8, 8, generator=g), torch.randint(0, 3, (64,), generator=g))
        module = module or Foreign()
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = L.Trainer(
            callbacks=callbacks, max_epochs=4, accelerator="cpu", enable_checkpointing=False,
            default_root_dir=tmp_path, **quiet,
        )  # fmt: skip
        trainer.fit(module, Resumable(data, 8), Resumable(data, 8), ckpt_path=ckpt)
        trainer.save_checkpoint(tmp_path / "end.ckpt")
        return module

    return run


AVERAGES = [lambda: EMAWeightAveraging(decay=0.9), WeightAveraging, lambda: StochasticWeightAveraging(0.01, 2)]


@pytest.mark.parametrize("granularity", [Weight(), Filter()])
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("order", [1, -1])
def test_an_average_is_pruned_wherever_anyone_looks(fit: Callable, granularity: Any, average: Any, order: int) -> None:
    callback = pruning(granularity)
    watch = Watch(callback.pruner)
    module = fit([*[average(), callback][::order], watch])
    assert watch.looks > 30
    for name, mask in callback.pruner.masks.items():
        assert not module.get_parameter(name)[~mask].any(), name
    if isinstance(granularity, Weight):
        assert module.body[4].weight.eq(0).sum() == round(0.75 * 864)


def test_an_average_that_a_callback_sets_anew_when_it_is_pruned_is_pruned_too(fit: Callable) -> None:
    class Anew(L.Callback):
        def on_pruned(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
            for weight in average._average_model.module.parameters():
                weight.data.fill_(1)

    average, callback = EMAWeightAveraging(decay=0.9), pruning()
    fit([average, callback, Anew(), watch := Watch(callback.pruner)])
    assert watch.looks > 30


def test_what_is_kept_is_averaged_as_without_masks(fit: Callable) -> None:
    """One pruning before the first step: the mean of the weights after each."""
    callback, steps = pruning(schedule=Rounds(rate=0.5, start=0.0)), list[Tensor]()

    class Record(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: object) -> None:
            steps.append(pl_module.body[4].weight.detach().clone())

    module = fit([callback, WeightAveraging(), Record()])
    torch.testing.assert_close(module.body[4].weight, torch.stack(steps).mean(0))


def test_an_average_that_was_saved_dense_is_pruned_when_training_resumes(fit: Callable, tmp_path: Path) -> None:
    class Save(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
            if trainer.global_step == 30:  # the last pruning was before it
                trainer.save_checkpoint(tmp_path / "dense.ckpt")

    fit([pruning(), EMAWeightAveraging(decay=0.9), Save()])
    checkpoint = torch.load(tmp_path / "dense.ckpt", weights_only=True)
    for tensor in checkpoint["state_dict"].values():
        tensor.fill_(1)
    torch.save(checkpoint, tmp_path / "dense.ckpt")
    module = fit([pruning(), EMAWeightAveraging(decay=0.9)], ckpt=tmp_path / "dense.ckpt")
    assert module.body[4].weight.eq(0).sum() == round(0.75 * 864)


def test_the_epoch_in_which_swa_finds_batch_norms_again_is_not_one_of_training(fit: Callable) -> None:
    with_swa, without = pruning(), pruning()
    watches = [Watch(with_swa.pruner), Watch(without.pruner)]
    module = fit([with_swa, StochasticWeightAveraging(0.01, 2), watches[0]], Foreign(norm=True))
    fit([without, watches[1]], Foreign(norm=True))
    assert watches[0].rates[:32] == watches[1].rates
    assert module.body[4].weight.eq(0).sum() == round(0.75 * 864)


@pytest.mark.parametrize("swa_first", [False, True])
def test_in_that_epoch_times_are_those_of_the_training_before_it(fit: Callable, swa_first: bool) -> None:
    class Look(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, *_: object) -> None:
            self.run = progress(trainer, trainer.global_step)

    ours, swa = [SoftPruning(), pruning(Filter(), Rounds(rate=0.5, start="6it"))], [StochasticWeightAveraging(0.01, 2)]
    fit([*(swa + ours if swa_first else ours + swa), look := Look()], Foreign(norm=True))
    assert look.run == Progress(step=32, total=32, epoch=8)


class OfAPart(L.Callback):
    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.average = AveragedModel(pl_module.body)


class Inside(Foreign):
    def __init__(self) -> None:
        super().__init__()
        self.average = AveragedModel(self.body)


def test_an_average_that_masks_do_not_reach_is_refused(fit: Callable) -> None:
    with pytest.raises(ValueError, match=r"OfAPart averages a Sequential.*: let it average the whole Foreign"):
        fit([OfAPart(), pruning()])
    with pytest.raises(ValueError, match=r"Inside\.average is an AveragedModel inside the network"):
        fit([pruning()], Inside())


def test_what_would_make_an_average_of_different_things_is_refused(fit: Callable) -> None:
    rounds = Rounds(rate=0.5, start="2ep", training="2ep")
    for callbacks in (
        [pruning(schedule=rounds), Rewind()],
        [ScalingFactors(gamma=0.1), pruning(Filter(), rounds)],
        [pruning(), Binarize()],
    ):
        with pytest.raises(ValueError, match=r"EMAWeightAveraging beside \w+, whose copy .*: leave out one of them"):
            fit([*callbacks, EMAWeightAveraging()])
    fit([pruning(schedule=rounds), Rewind(parameters=False, buffers=False), EMAWeightAveraging()])
