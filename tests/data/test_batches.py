"""Batches of an epoch: order, augmentation, resuming and shares of ranks."""

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from prunelab.data.augment import PadCropFlip
from prunelab.data.batches import Batches
from prunelab.data.images import Images
from prunelab.data.normalise import Normalise
from prunelab.data.sampling import Sampling

N = 26
POOL = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = Images(POOL, torch.arange(40), torch.arange(10, 10 + N))  # each label is the row of its image
PLAIN = Normalise((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
Epoch = list[tuple[Tensor, Tensor]]


def training(seed: int = 0, rank: int = 0, world_size: int = 1, device: str = "cpu") -> Batches:
    sampling = Sampling(4, True, True, seed, rank, world_size)
    return Batches(IMAGES, sampling, PLAIN, PadCropFlip(2, cutout=3), device)


def same(first: Iterable[tuple[Tensor, Tensor]], second: Iterable[tuple[Tensor, Tensor]]) -> bool:
    return all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(first, second, strict=True))


def epochs(batches: Batches, count: int) -> list[Epoch]:
    recorded = []
    for epoch in range(count):
        batches.set_epoch(epoch)
        recorded.append(list(batches))
    return recorded


def test_evaluation_yields_every_image_once_normalised_and_in_order() -> None:
    batches = Batches(IMAGES, Sampling(4), Normalise((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert y.tolist() == list(range(10, 10 + N))
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    torch.testing.assert_close(x, (POOL[y] / 255 - mean) / std, rtol=1e-5, atol=1e-6)
    assert len(batches) == 7


def test_images_keep_their_labels_when_shuffled() -> None:
    batches = Batches(IMAGES, Sampling(4, shuffle=True), PLAIN)
    for x, y in batches:
        torch.testing.assert_close(x, POOL[y] / 255)
    assert torch.cat([y for _, y in batches]).diff().min() < 0


def test_training_yields_whole_batches_without_repeated_images() -> None:
    labels = [y for _, y in training()]
    assert [len(y) for y in labels] == [4] * 6
    assert len(set(torch.cat(labels).tolist())) == 24


def test_epochs_differ_and_are_reproducible_by_seed() -> None:
    first, again, other = epochs(training(), 2), epochs(training(), 2), epochs(training(seed=1), 2)
    assert same(first[0], again[0])
    assert same(first[1], again[1])
    assert not same(first[0], first[1])
    assert not same(first[0], other[0])


def test_augmentation_changes_with_the_epoch_for_the_same_image() -> None:
    batches = Batches(IMAGES, Sampling(4), PLAIN, PadCropFlip())
    first, second = epochs(batches, 2)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True))
    assert not same(first, second)


@pytest.mark.parametrize("count", range(7))
def test_resumed_epoch_continues_with_the_same_bits(count: int) -> None:
    expected, killed = epochs(training(), 4), training()
    killed.set_epoch(2)
    for _, _ in zip(range(count), killed, strict=False):
        pass
    resumed = training()
    resumed.load_state_dict(killed.state_dict())
    resumed.set_epoch(2)
    assert same(resumed, expected[2][count % 6 :])  # after the last batch the epoch is finished, and starts again
    resumed.set_epoch(3)
    assert same(resumed, expected[3])


def test_state_can_be_loaded_after_the_iterator_was_created() -> None:
    batches = training()
    iterator = iter(batches)
    batches.load_state_dict({"epoch": 1, "position": 4})
    assert same(iterator, epochs(training(), 2)[1][4:])


def test_restored_position_is_used_once() -> None:
    batches = training()
    batches.load_state_dict({"epoch": 0, "position": 5})
    assert [len(list(batches)), len(list(batches))] == [1, 6]


def test_restored_position_of_another_epoch_is_dropped() -> None:
    batches = training()
    batches.load_state_dict({"epoch": 0, "position": 5})
    batches.set_epoch(1)
    assert same(batches, epochs(training(), 2)[1])
    assert batches.state_dict() == {"epoch": 2, "position": 0}  # the next one


def test_single_batch_can_be_made_without_moving_the_position() -> None:
    batches, expected = training(), epochs(training(), 1)[0]
    iterator = iter(batches)
    next(iterator)
    assert same([batches.batch(5)], expected[5:])
    assert batches.state_dict() == {"epoch": 0, "position": 1}
    assert same(iterator, expected[1:])


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_see_the_batches_of_one_process(world_size: int) -> None:
    shards = [epochs(training(0, rank, world_size), 2)[1] for rank in range(world_size)]
    for i, (x, y) in enumerate(epochs(training(), 2)[1]):
        for rank in range(world_size):
            assert torch.equal(shards[rank][i][0], x[rank::world_size])
            assert torch.equal(shards[rank][i][1], y[rank::world_size])


def test_no_images_make_no_batches() -> None:
    batches = Batches(Images(POOL, torch.arange(40), torch.arange(0)), Sampling(4), PLAIN)
    assert list(batches) == []
    assert batches.state_dict() == {"epoch": 1, "position": 0}


def test_epoch_set_on_the_sampler_reaches_the_batches() -> None:
    batches = training()
    batches.sampler.set_epoch(1)
    assert same(batches, epochs(training(), 2)[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_batches_equal_those_of_the_cpu() -> None:
    for (x, y), (u, v) in zip(training(device="cuda"), training(), strict=True):
        assert x.is_cuda
        assert torch.equal(y.cpu(), v)
        torch.testing.assert_close(x.cpu(), u)
