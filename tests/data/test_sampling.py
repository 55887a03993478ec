"""Order of images and shares of ranks."""

import itertools

import pytest
import torch

from prunelab.data.sampling import Sampling


def positions(sampling: Sampling, n: int) -> list[list[int]]:
    return [list(range(n))[sampling.positions(i, n)] for i in range(sampling.count(n))]


def test_evaluation_visits_every_image_once_and_in_order() -> None:
    assert positions(Sampling(4), 10) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_training_drops_the_incomplete_batch() -> None:
    assert positions(Sampling(4, drop_last=True), 10) == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize(("n", "drop_last"), [(24, True), (29, True), (24, False), (29, False), (25, False)])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ranks_share_each_global_batch(n: int, drop_last: bool, world_size: int) -> None:
    batches = positions(Sampling(12, drop_last=drop_last), n)
    shards = [positions(Sampling(12, False, drop_last, 0, r, world_size), n) for r in range(world_size)]
    for i, batch in enumerate(batches):
        shares = [shard[i] for shard in shards if i < len(shard)]
        assert sorted(itertools.chain(*shares)) == batch
        assert all(shares)
    assert max(map(len, shards)) == len(batches)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    orders = {}
    for seed in range(3):
        for epoch in range(3):
            sampling = Sampling(4, shuffle=True, seed=seed)
            orders[seed, epoch] = tuple(sampling.order(50, sampling.generator(epoch)).tolist())
            assert sampling.order(50, sampling.generator(epoch)).tolist() == list(orders[seed, epoch])
    assert len(set(orders.values())) == 9
    assert all(sorted(order) == list(range(50)) for order in orders.values())


def test_order_is_the_same_on_all_ranks() -> None:
    ranks = [Sampling(4, shuffle=True, rank=r, world_size=2) for r in range(2)]
    assert torch.equal(*(s.order(50, s.generator(7)) for s in ranks))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"batch_size": 0}, "batch_size=0: expected 1 or more"),
        ({"batch_size": 4, "rank": 2, "world_size": 2}, r"rank=2: expected .* \[0, world_size=2\)"),
        ({"batch_size": 5, "drop_last": True, "world_size": 2}, "batch_size=5: expected a multiple"),
        ({"batch_size": 5, "seed": -1}, "seed=-1: expected 0 or more"),
    ],
)
def test_invalid_settings_are_refused(bad: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**bad)


def test_training_with_less_than_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size=64: more than the 50 images"):
        Sampling(64, drop_last=True).count(50)
