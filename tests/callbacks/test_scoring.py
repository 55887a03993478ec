"""Scoring batches from the training loader, which is not disturbed."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import DoublePrecision
from lightning.pytorch.plugins.precision import Precision
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, TensorDataset

from prunelab.callbacks.scoring import draw_batches


def trainer(loader, datamodule=None, precision: Precision | None = None) -> SimpleNamespace:
    strategy = SimpleNamespace(batch_to_device=lambda batch: batch, root_device=torch.device("cpu"))
    plugin = precision or Precision()
    return SimpleNamespace(train_dataloader=loader, datamodule=datamodule, strategy=strategy, precision_plugin=plugin)


def numbers(n: int = 32) -> TensorDataset:
    return TensorDataset(torch.arange(n), torch.zeros(n))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def first(batches) -> list[int]:
    return batches[0][0].tolist()


@pytest.mark.parametrize("loader_seed", [None, 7])
def test_training_goes_on_with_the_numbers_it_would_have_drawn(loader_seed: int | None) -> None:
    def order(scored: bool) -> list[int]:
        torch.manual_seed(3)
        loader = DataLoader(
            numbers(), 4, shuffle=True, generator=generator(loader_seed) if loader_seed is not None else None
        )
        batches = []
        for i, batch in enumerate(loader):
            if scored and i == 2:
                draw_batches(trainer(loader), 3, generator())
            batches += batch[0].tolist()
        return batches + [x for batch in loader for x in batch[0].tolist()] + torch.rand(3).tolist()

    assert order(scored=True) == order(scored=False)


class Shifted(Dataset):
    """Shifts its numbers by random ones, of Python's and NumPy's streams."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, i: int) -> tuple[float, float]:
        return i + random.random(), float(np.random.rand())


def test_a_batch_sampler_with_numbers_of_numpy_is_let_be() -> None:
    class Order(BatchSampler):
        generator = np.random.default_rng(0)

    loader = DataLoader(numbers(), batch_sampler=Order(RandomSampler(range(32)), 4, drop_last=False))
    assert len(draw_batches(trainer(loader), 2, generator())) == 2


def test_what_a_dataset_and_the_hooks_for_batches_draw_is_drawn_apart() -> None:
    def drawn(scored: bool) -> list[float]:
        torch.manual_seed(3), random.seed(3), np.random.seed(3)
        order = BatchSampler(RandomSampler(range(32), generator=generator(5)), 4, drop_last=False)
        loader, numbers = DataLoader(Shifted(), batch_sampler=order), []
        for i, batch in enumerate(loader):
            if scored and i == 2:
                hooked = trainer(loader)
                hooked.strategy.batch_to_device = lambda batch: [batch[0] + torch.rand(4), batch[1]]
                first, again = ([x.tolist() for x in draw_batches(hooked, 1, generator())[0]] for _ in range(2))
                assert first == again
            numbers += torch.cat(batch).tolist()
        return numbers + torch.cat(next(iter(loader))).tolist() + torch.rand(3).tolist()

    assert drawn(scored=True) == drawn(scored=False)


@pytest.mark.parametrize("loader_seed", [None, 7])
def test_each_draw_is_another_one_and_follows_the_pruners_stream(loader_seed: int | None) -> None:
    loader = DataLoader(
        numbers(), 4, shuffle=True, generator=generator(loader_seed) if loader_seed is not None else None
    )
    stream = generator()
    first_draw, second_draw = (first(draw_batches(trainer(loader), 1, stream)) for _ in range(2))
    assert first_draw != second_draw
    assert first(draw_batches(trainer(loader), 1, generator())) == first_draw


def test_a_loader_that_counts_what_it_gives_does_not_count_a_look() -> None:
    class Counting(DataLoader):
        given = 0

        def __iter__(self):
            for batch in super().__iter__():
                self.given += 1
                yield batch

    loader = Counting(numbers(), 4)
    draw_batches(trainer(loader), 3, generator())
    assert loader.given == 0


def test_persistent_workers_go_on_serving_the_training() -> None:
    loader = DataLoader(numbers(), 4, num_workers=1, persistent_workers=True)
    training = iter(loader)
    before = next(training)[0].tolist()
    draw_batches(trainer(loader), 2, generator())
    assert before + [x for batch in training for x in batch[0].tolist()] == list(range(32))


def test_the_data_modules_own_batches_come_first() -> None:
    datamodule = SimpleNamespace(scoring_batches=lambda count, generator: [("x", "y")] * count)
    assert draw_batches(trainer(None, datamodule), 2, generator()) == [("x", "y")] * 2
    assert draw_batches(trainer(None, datamodule), 2, generator(), augmented=True) == [("x", "y")] * 2
    datamodule.statistics_batches = lambda count, generator: [("shifted", "y")] * count
    assert draw_batches(trainer(None, datamodule), 2, generator(), augmented=True) == [("shifted", "y")] * 2
    assert draw_batches(trainer(None, datamodule), 2, generator()) == [("x", "y")] * 2


def test_too_few_batches_and_several_loaders_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="asks for 9 batches, the training data have 8: lower"):
        draw_batches(trainer(DataLoader(numbers(), 4)), 9, generator())
    with pytest.raises(ValueError, match=r"give the data module scoring_batches"):
        draw_batches(trainer([DataLoader(numbers(), 4)]), 1, generator())


def test_inputs_are_of_the_type_that_the_net_trains_in() -> None:
    loader = DataLoader(TensorDataset(torch.zeros(4, 2), torch.arange(4)), 2)
    [(x, y)] = draw_batches(trainer(loader, precision=DoublePrecision()), 1, torch.Generator())
    assert (x.dtype, y.dtype) == (torch.float64, torch.int64)
