"""Shares of ranks in the batches of the data module."""

from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from prunelab.data.images import Images, Splits
from prunelab.lit.datamodule import EVALUATION_BATCH, EVALUATION_BATCH_ON_GPU, ImageDataModule


def rank_data(rank: int, world_size: int, batch_size: int = 12) -> ImageDataModule:
    images = [Images(torch.zeros(n, 3, 32, 32, dtype=torch.uint8), torch.arange(n)) for n in (50, 7, 13)]
    splits = Splits(*images, ("a",), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "")  # each label is the number of its image
    data = ImageDataModule(splits, batch_size, seed=3)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, strategy=strategy)  # type: ignore[assignment]
    return data


def labels(loader: Any, epoch: int = 0) -> list[list[int]]:
    loader.set_epoch(epoch)
    return [y.tolist() for _, y in loader]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_every_batch_and_see_every_image_once_per_epoch(world_size: int) -> None:
    single = rank_data(0, 1)
    ranks = [rank_data(rank, world_size) for rank in range(world_size)]
    for epoch in range(2):
        batches = labels(single.train_dataloader(), epoch)
        shares = [labels(data.train_dataloader(), epoch) for data in ranks]
        assert [sorted(chain(*batch)) for batch in zip(*shares, strict=True)] == [sorted(batch) for batch in batches]
        assert len(set(chain(*chain(*shares)))) == 48
    for split, n in enumerate((7, 13)):
        shares = [labels(data.val_dataloader()[split]) for data in ranks]
        assert sorted(chain(*chain(*shares))) == list(range(n))
    assert {data.steps_per_epoch() for data in ranks} == {single.steps_per_epoch()}


def test_every_rank_scores_on_the_batches_of_one_process() -> None:
    first, second = (
        rank_data(rank, world_size).scoring_batches(2, torch.Generator().manual_seed(1))
        for rank, world_size in ((0, 1), (1, 2))
    )
    assert [y.tolist() for _, y in first] == [y.tolist() for _, y in second]


def test_fewer_evaluation_images_than_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="7 evaluation images are too few for 12 devices"):
        rank_data(0, 12).val_dataloader()


def test_each_rank_evaluates_batches_of_the_size_of_one_process() -> None:
    for ranks in (1, 2):
        (val, _) = rank_data(0, ranks).val_dataloader()
        assert val.sampling.batch_size == EVALUATION_BATCH * ranks  # shared by the ranks


def test_a_gpu_evaluates_larger_batches_of_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageDataModule, "_device", torch.device("cuda"))
    assert {split.sampling.batch_size for split in rank_data(0, 1).val_dataloader()} == {EVALUATION_BATCH_ON_GPU}


def test_a_restored_position_is_that_of_one_epoch_only() -> None:
    whole, data = rank_data(0, 1), rank_data(0, 1)
    batches = labels(whole.train_dataloader())
    loader = whole.train_dataloader()
    next(iter(loader))
    data.load_state_dict(whole.state_dict())
    assert labels(data.train_dataloader()) == batches[1:]
    assert labels(data.train_dataloader()) == batches


def test_it_gives_batches_to_a_plain_loop() -> None:
    """Without a Trainer: those that it gives to one of a single process."""
    images = rank_data(0, 1).splits
    data = ImageDataModule(images, 12, seed=3)
    data.prepare_data()
    data.setup("fit")
    for plain, trained in zip(loaders(data), loaders(rank_data(0, 1)), strict=True):
        assert labels(plain, 1) == labels(trained, 1)
    for x, _ in data.train_dataloader():
        assert (x.shape, x.device.type) == ((12, 3, 32, 32), "cpu")


def loaders(data: ImageDataModule) -> list[Any]:
    return [data.train_dataloader(), *data.val_dataloader(), data.test_dataloader()]
