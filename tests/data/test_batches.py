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
IMAGES = Images(POOL, torch.arange(40), torch.arange(10, 10 + N))  # a label is its image's row
PLAIN = Normalise((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
Epoch = list[tuple[Tensor, Tensor]]


def training(seed: int = 0, rank: int = 0, world_size: int = 1, device: str = "cpu") -> Batches:
    sampling = Sampling(4, True, True, seed, rank, world_size)
    return Batches(IMAGES, sampling, PLAIN, PadCropFlip(2, cutout=3), device)


def same(one: Iterable[tuple[Tensor, Tensor]], other: Iterable[tuple[Tensor, Tensor]]) -> bool:
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True))


def epochs(batches: Batches, count: int) -> list[Epoch]:
    done = []
    for epoch in range(count):
        batches.set_epoch(epoch)
        done.append(list(batches))
    return done


def test_evaluation_gives_every_image_once_normalised_and_in_order() -> None:
    batches = Batches(IMAGES, Sampling(4), Normalise((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert y.tolist() == list(range(10, 10 + N))
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    torch.testing.assert_close(x, (POOL[y] / 255 - mean) / std, rtol=1e-5, atol=1e-6)
    assert len(batches) == 7


def test_image_keeps_its_label_through_shuffling() -> None:
    batches = Batches(IMAGES, Sampling(4, shuffle=True), PLAIN)
    for x, y in batches:
        torch.testing.assert_close(x, POOL[y] / 255)
    assert torch.cat([y for _, y in batches]).diff().min() < 0


def test_training_gives_no_image_twice_and_whole_batches_only() -> None:
    labels = [y for _, y in training()]
    assert [len(y) for y in labels] == [4] * 6
    assert len(set(torch.cat(labels).tolist())) == 24


def test_epochs_differ_and_repeat_by_seed() -> None:
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


@pytest.mark.parametrize("done", range(7))
def test_restored_epoch_goes_on_with_the_same_bits(done: int) -> None:
    whole, killed = epochs(training(), 4), training()
    killed.set_epoch(2)
    for _, _ in zip(range(done), killed, strict=False):
        pass
    resumed = training()
    resumed.load_state_dict(killed.state_dict())
    resumed.set_epoch(2)
    assert same(resumed, whole[2][done % 6 :])  # after the last batch the epoch is finished: nothing to go on with
    resumed.set_epoch(3)
    assert same(resumed, whole[3])


def test_state_may_come_after_the_iterator_was_asked_for() -> None:
    batches, iterator = training(), iter(training())
    iterator = iter(batches)
    batches.load_state_dict({"epoch": 1, "position": 4})
    assert same(iterator, epochs(training(), 2)[1][4:])


def test_position_is_used_once() -> None:
    batches = training()
    batches.load_state_dict({"epoch": 0, "position": 5})
    assert [len(list(batches)), len(list(batches))] == [1, 6]


def test_position_of_another_epoch_is_dropped() -> None:
    batches = training()
    batches.load_state_dict({"epoch": 0, "position": 5})
    batches.set_epoch(1)
    assert same(batches, epochs(training(), 2)[1])
    assert batches.state_dict() == {"epoch": 1, "position": 0}


def test_single_batch_can_be_made_without_moving_the_position() -> None:
    batches, whole = training(), epochs(training(), 1)[0]
    iterator = iter(batches)
    next(iterator)
    assert same([batches.batch(5)], whole[5:])
    assert batches.state_dict() == {"epoch": 0, "position": 1}
    assert same(iterator, whole[1:])


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_see_what_one_would_see_alone(world_size: int) -> None:
    shards = [epochs(training(0, rank, world_size), 2)[1] for rank in range(world_size)]
    for i, (x, y) in enumerate(epochs(training(), 2)[1]):
        for rank in range(world_size):
            assert torch.equal(shards[rank][i][0], x[rank::world_size])
            assert torch.equal(shards[rank][i][1], y[rank::world_size])


def test_no_validation_images_make_no_batches() -> None:
    batches = Batches(Images(POOL, torch.arange(40), torch.arange(0)), Sampling(4), PLAIN)
    assert list(batches) == []
    assert batches.state_dict() == {"epoch": 0, "position": 0}


def test_epoch_announced_to_the_sampler_reaches_the_batches() -> None:
    batches = training()
    batches.sampler.set_epoch(1)
    assert same(batches, epochs(training(), 2)[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_batches_equal_those_of_the_cpu() -> None:
    for (x, y), (a, b) in zip(training(device="cuda"), training(), strict=True):
        assert x.is_cuda
        assert torch.equal(y.cpu(), b)
        torch.testing.assert_close(x.cpu(), a)
