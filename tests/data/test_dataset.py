"""Moments, fingerprint and split of a data set."""

from dataclasses import replace

import pytest
import torch

from prunelab.data.dataset import Dataset, fingerprint, moments

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=GENERATOR)
Y = torch.arange(40) % 4


def test_moments_equal_those_of_the_float_images() -> None:
    x = X[:, :, :, :16]
    mean, std = moments(x)
    planes = x.double().div(255).transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), planes.mean(1))
    torch.testing.assert_close(torch.tensor(std, dtype=torch.float64), planes.std(1, correction=0))


def test_fingerprint_changes_with_one_pixel_or_label() -> None:
    x, y = X.clone(), Y.clone()
    x[7, 2, 31, 31] ^= 1
    y[39] += 1
    assert len(fingerprint(X, Y)) == 16
    assert len({fingerprint(X, Y), fingerprint(x, Y), fingerprint(X, y)}) == 3


def test_splits_share_one_pool_and_one_fingerprint() -> None:
    dataset = Dataset.from_tensors((X, Y), (X[:8], Y[:8]), tuple("abcd"))
    first, second = dataset.split(8, seed=0), dataset.split(12, seed=1)
    assert first.train.pool is first.val.pool is dataset.x_train
    assert (len(first.train), len(first.val), len(first.test), len(second.val)) == (32, 8, 8, 12)
    assert first.fingerprint == second.fingerprint
    assert first.mean == second.mean


@pytest.mark.parametrize("level", [0, 77, 254])
def test_a_channel_without_variance_is_refused_by_name(level: int) -> None:
    x = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(20) % 2
    x[:, 1] = level
    with pytest.raises(ValueError, match=r"std=\(.*\): all train images have the same green in every pixel"):
        Dataset.from_tensors((x, y), (x, y), ("a", "b"))
    x[3, 1, 5, 5] += 1
    assert Dataset.from_tensors((x, y), (x, y), ("a", "b")).std[1] > 0


def test_unequal_classes_have_another_fingerprint_than_before_they_were_held_out_in_proportion() -> None:
    even = Dataset.from_tensors((X, Y), (X[:8], Y[:8]), tuple("abcd"))
    assert even.split(8, seed=0).fingerprint == even.fingerprint
    uneven = Dataset.from_tensors((X[:-1], Y[:-1]), (X[:8], Y[:8]), tuple("abcd"))
    fingerprints = {uneven.split(val, seed=0).fingerprint for val in (4, 8)}
    assert len(fingerprints) == 1
    assert uneven.fingerprint not in fingerprints


def test_a_split_reads_no_pixels() -> None:
    """Which a job would count as memory of its training, and which take minutes of large images on disk."""
    dataset = Dataset.from_tensors((X, Y), (X[:8], Y[:8]), tuple("abcd"))
    nothing = replace(dataset, x_train=X.to("meta"), x_test=X[:8].to("meta"))
    assert nothing.split(8, seed=0).fingerprint == dataset.fingerprint


def test_copies_of_training_images_in_other_splits_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    apart = Dataset.from_tensors((X[:32], Y[:32]), (X[32:], Y[32:]), tuple("abcd"))
    apart.split(8, seed=0)
    assert caplog.text == ""
    twice = torch.cat([X[:16], X[:16]])  # each image has a copy of its own class
    leaky = Dataset.from_tensors((twice, Y[:32]), (X[:20], Y[:20]), tuple("abcd"))
    splits = leaky.split(4, seed=0)
    trained = {image.numpy().tobytes() for image in splits.train.x}
    counts = [sum(image.numpy().tobytes() in trained for image in part.x) for part in (splits.test, splits.val)]
    assert counts[1]
    words = f"{counts[0]} of 20 test images and {counts[1]} of 4 validation images are training images too"
    assert words in caplog.text
