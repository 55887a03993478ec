"""Shares of ranks in the batches of the data module."""

from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from prunelab.data.augment import PadCropFlip
from prunelab.data.images import Images, Splits
from prunelab.lit.datamodule import EVALUATION_BATCH, OTHER_BATCH, ImageDataModule


def data_alone(batch_size: int = 12, augment: PadCropFlip | None = None) -> ImageDataModule:
    shown = torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = [Images(shown[:n], torch.arange(n)) for n in (50, 7, 13)]
    splits = Splits(*images, ("a",), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "")  # each label is the number of its image
    return ImageDataModule(splits, batch_size, augment, seed=3)


def rank_data(rank: int, world_size: int, batch_size: int = 12, augment: PadCropFlip | None = None) -> ImageDataModule:
    data = data_alone(batch_size, augment)
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


def test_batches_for_statistics_are_those_for_scores_augmented_as_in_training() -> None:
    crops = PadCropFlip(2)
    plain, augmented = (
        getattr(data_alone(augment=crops), name)(2, torch.Generator().manual_seed(1))
        for name in ("scoring_batches", "statistics_batches")
    )
    generator = torch.Generator().manual_seed(1)
    torch.randperm(50, generator=generator)  # which images
    for (x, y), (shown, labelled) in zip(plain, augmented, strict=True):
        assert torch.equal(y, labelled)
        pixels = (x * 255).round().to(torch.uint8)
        expected = crops.apply(pixels, crops.draw(12, (32, 32), generator))
        assert not torch.equal(x, shown)
        torch.testing.assert_close(shown, expected / 255)
    [(x, _), (shown, _)] = (
        getattr(data_alone(), name)(1, torch.Generator().manual_seed(1))[0]
        for name in ("scoring_batches", "statistics_batches")
    )
    assert torch.equal(x, shown)


def test_fewer_evaluation_images_than_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="7 evaluation images are too few for 12 devices"):
        rank_data(0, 12).val_dataloader()


def test_each_rank_evaluates_batches_of_the_size_of_one_process() -> None:
    for ranks in (1, 2):
        (val, _) = rank_data(0, ranks).val_dataloader()
        assert val.sampling.batch_size == EVALUATION_BATCH["cpu"] * ranks  # shared by the ranks


@pytest.mark.parametrize(("device", "size"), [("cuda", EVALUATION_BATCH["cuda"]), ("mps", OTHER_BATCH)])
def test_each_kind_of_device_has_its_size_of_batches(device: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageDataModule, "_device", torch.device(device))
    assert {split.sampling.batch_size for split in rank_data(0, 1).val_dataloader()} == {size}


def test_a_restored_position_is_that_of_one_epoch_only() -> None:
    whole, data = rank_data(0, 1), rank_data(0, 1)
    batches = labels(whole.train_dataloader())
    loader = whole.train_dataloader()
    next(iter(loader))
    data.load_state_dict(whole.state_dict())
    assert labels(data.train_dataloader()) == batches[1:]
    assert labels(data.train_dataloader()) == batches


def test_a_plain_loop_sees_the_batches_of_a_training() -> None:
    crops = PadCropFlip(2)
    trained, alone = rank_data(0, 1, augment=crops).train_dataloader(), data_alone(augment=crops)
    alone.prepare_data()
    alone.setup("fit")
    loader, orders = alone.train_dataloader(), []
    for epoch in range(3):  # without a word to the loader
        trained.set_epoch(epoch)
        passed = list(loader)
        assert len(passed) == 4
        for (x, y), (u, v) in zip(trained, passed, strict=True):
            assert torch.equal(x, u)
            assert torch.equal(y, v)
        orders.append([y.tolist() for _, y in passed])
    assert orders[0] != orders[1] != orders[2]
    val, test = alone.val_dataloader()
    assert [sum(len(y) for _, y in split) for split in (val, test, alone.test_dataloader())] == [7, 13, 13]
    assert len(alone.scoring_batches(2, torch.Generator())) == 2


def test_a_pass_that_was_left_early_begins_its_epoch_again() -> None:
    loader = data_alone().train_dataloader()
    first = [y.tolist() for _, y in loader]
    second = [y.tolist() for _, y in loader]
    again = data_alone().train_dataloader()
    next(iter(again))
    assert [y.tolist() for _, y in again] == first
    next(iter(again))
    assert [y.tolist() for _, y in again] == second


def test_a_plain_loop_goes_on_with_the_next_epoch_after_a_restart() -> None:
    loader, resumed = data_alone().train_dataloader(), data_alone().train_dataloader()
    list(loader)
    resumed.load_state_dict(loader.state_dict())
    assert [y.tolist() for _, y in resumed] == [y.tolist() for _, y in loader]
