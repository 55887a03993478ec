"""Histograms count the non-zero weights, at a limited number of epochs and only where they tell something."""

from collections.abc import Iterator
from pathlib import Path

import events
import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from prunelab.tensorboard.histograms import Distributions

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


class Module(L.LightningModule):
    """Three linear layers with constant weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(2, 3)
        nn.init.constant_(self.b.weight, 2.0)
        with torch.no_grad():
            self.c.weight.copy_(torch.tensor([[0.0, 2], [0, 0], [0, 3]]))  # a filter gone, and one input of the others
            self.a.weight.copy_(torch.tensor([[1.0, 2, 3, 4], [0, 0, 0, -1], [0, 0, 0, 0]]))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return self.c(self.b(self.a(batch[0]))).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0)


class Images(IterableDataset):
    """Of unknown length."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor]]:
        return iter([(torch.ones(4),)] * 2)


class Norm(Module):
    """Has parameters, none of which is pruned."""

    def __init__(self) -> None:
        L.LightningModule.__init__(self)
        self.a = nn.LayerNorm(4)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return self.a(batch[0]).sum()


SIZED = TensorDataset(torch.ones(2, 4))


def fit(folder: Path, epochs: int, *also: L.Callback, module: type[Module] = Module, images: Dataset = SIZED) -> None:
    L.Trainer(
        max_epochs=epochs, logger=TensorBoardLogger(folder, name="", version=""), callbacks=[*also, Distributions()],
        accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=1,
    ).fit(module(), DataLoader(images, num_workers=0))  # fmt: skip


def test_non_zero_weights_are_counted_by_value_and_by_filter(tmp_path: Path) -> None:
    fit(tmp_path, 1)
    logged = events.accumulated(tmp_path)
    (left,), (density,) = logged.Histograms("weights/a"), logged.Histograms("weights_by_filter/a")
    weights, filters = left.histogram_value, density.histogram_value
    assert (weights.num, weights.min, weights.max, weights.sum, weights.sum_squares) == (5, -1, 4, 9, 31)
    assert counts(weights) == pytest.approx({-1: 1, 1: 1, 2: 1, 3: 1, 4: 1}, abs=1)
    assert (filters.num, filters.sum) == (3, 1.25)
    assert (sum(filters.bucket), filters.bucket[0], filters.bucket[-1]) == (3, 1, 1)


class Upsampling(Module):
    """Its transposed convolution makes a channel of both inputs, one of the first alone, and one of none."""

    def __init__(self) -> None:
        L.LightningModule.__init__(self)
        self.up = nn.ConvTranspose1d(2, 3, 1)
        self.up.weight.data = torch.tensor([[1.0, 2, 0], [3, 0, 0]])[..., None]

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return self.up(batch[0].view(-1, 2, 2)).sum()


def test_a_filter_of_a_transposed_convolution_makes_an_output_channel(tmp_path: Path) -> None:
    fit(tmp_path, 1, module=Upsampling)
    (density,) = events.accumulated(tmp_path).Histograms("weights_by_filter/up")
    assert (density.histogram_value.min, density.histogram_value.max, density.histogram_value.sum) == (0, 1, 1.5)


def counts(histogram) -> dict[int, float]:
    """Counts by the nearest whole number."""
    totals: dict[int, float] = {}
    for limit, count in zip(histogram.bucket_limit, histogram.bucket, strict=True):
        if count:
            totals[round(limit)] = totals.get(round(limit), 0) + count
    return totals


def test_equally_dense_filters_have_no_histogram_and_equal_weights_have_one(tmp_path: Path) -> None:
    fit(tmp_path, 1)
    shown = events.steps(tmp_path)
    assert "weights_by_filter/b" not in shown
    assert "weights_by_filter/c" not in shown
    assert events.accumulated(tmp_path).Histograms("weights/b")[0].histogram_value.num == 6


@pytest.mark.parametrize(("epochs", "at"), [(3, [1, 2, 3]), (25, [3, 5, 8, 10, 13, 15, 18, 20, 23, 25])])
def test_they_come_at_most_ten_times_and_at_the_end(epochs: int, at: list[int], tmp_path: Path) -> None:
    fit(tmp_path, epochs)
    assert events.steps(tmp_path)["weights/a"] == at


def test_a_data_set_of_unknown_length_changes_nothing(tmp_path: Path) -> None:
    fit(tmp_path, 25, images=Images())
    assert events.steps(tmp_path)["weights/a"] == [3, 5, 8, 10, 13, 15, 18, 20, 23, 25]


def test_with_an_open_number_of_epochs_there_is_one_after_each(tmp_path: Path) -> None:
    class Enough(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            trainer.should_stop = trainer.current_epoch == 11

    fit(tmp_path, -1, Enough())
    assert events.steps(tmp_path)["weights/a"] == [*range(1, 13)]


def test_a_network_without_prunable_layers_is_trained_and_has_none(tmp_path: Path) -> None:
    fit(tmp_path, 1, module=Norm)
    assert [tag for tag in events.steps(tmp_path) if "weights" in tag] == []


def test_ranks_other_than_the_first_write_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(L.Trainer, "is_global_zero", False)
    fit(tmp_path, 1)
    assert [tag for tag in events.steps(tmp_path) if "weights" in tag] == []
