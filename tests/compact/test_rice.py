"""Rice-coded positions: bytes worked out by hand, round trips, and refusal of invalid codes."""

import random
from typing import Any

import numpy as np
import pytest

from prunelab.compact.codec import entropy
from prunelab.compact.rice import Code, pack, unpack


def mask_at(n: int, *positions: int) -> np.ndarray:
    mask = np.zeros(n, np.bool_)
    mask[list(positions)] = True
    return mask


def test_gaps_by_hand() -> None:
    # Gaps 3 and 36. With r = 3: 0 and 4 in unary, 1 00001, then 3 and 4 from the lowest bit, 110 001. 12 bits; r = 2
    # takes 15, r = 4 as many.
    code, data = pack(mask_at(64, 3, 40))
    assert code == Code(3, 2)
    assert data.tolist() == [0b10000100, 0b11000100]


def test_dense_positions_are_written_as_a_bitmap() -> None:
    code, data = pack(mask_at(12, 0, 2, 4, 6, 8))  # gaps 0, 1, 1, 1, 1 in unary: a bit for each position up to the last
    assert code == Code(0, 5)
    assert data.tolist() == [0b10101010, 0b10000000]


def test_none_all_and_nothing_take_no_bytes() -> None:
    for n in (0, 1, 7, 8, 1000):
        for mask in (np.zeros(n, np.bool_), np.ones(n, np.bool_)):
            code, data = pack(mask)
            assert (code, len(data)) == (Code(0, int(mask.sum())), 0)
            assert np.array_equal(unpack(code, data, n), mask)


def test_any_mask_round_trips_and_none_takes_more_than_a_bitmap() -> None:
    draw, kinds = random.Random(0), set()
    for n in [*range(1, 40), 255, 256, 257, 1000, 30_011]:
        for density in (0, 0.0003, 0.01, 0.1, 0.3, 0.5, 0.9, 1):
            mask = np.array([draw.random() < density for _ in range(n)])
            code, data = pack(mask)
            assert np.array_equal(unpack(list(code), data, n), mask)
            assert len(data) <= -(-n // 8) + 2
            kinds.add(code.rice)
    assert {0, 1, 3, 5, 10} <= kinds


def test_every_mask_of_length_ten_round_trips() -> None:
    for bits in range(1 << 10):
        mask = np.array([bits >> i & 1 for i in range(10)], np.bool_)
        code, data = pack(mask)
        assert np.array_equal(unpack(code, data, 10), mask)


@pytest.mark.parametrize("density", [0.3, 0.1, 0.05, 0.015, 0.001, 0.00003])
def test_random_masks_take_at_most_5_percent_more_than_their_entropy(density: float) -> None:
    n = 1_000_000
    mask = np.random.default_rng(0).random(n) < density
    code, data = pack(mask)
    assert len(data) <= 1.05 * entropy(n, code.k) / 8 + 2


def test_a_run_takes_far_less_than_its_entropy() -> None:
    assert len(pack(mask_at(100_000, *range(500, 1500)))[1]) < 0.2 * entropy(100_000, 1000) / 8


RICE = pack(mask_at(64, 3, 40))[1]


@pytest.mark.parametrize(
    ("code", "data", "n"),
    [
        (None, RICE, 64),
        ([3], RICE, 64),
        ([3, 2, 1], RICE, 64),
        ("32", RICE, 64),
        ([-1, 2], RICE, 64),
        ([33, 2], RICE, 64),
        ([3.0, 2], RICE, 64),
        ([True, 2], RICE, 64),
        ([3, -1], RICE, 64),
        ([3, 65], RICE, 64),
        ([3, "2"], RICE, 64),
        ([3, 3], RICE, 64),
        ([3, 1], RICE, 64),
        ([None, 2], RICE, 64),
        ([9, 2], RICE, 64),
        ([32, 2], RICE, 64),
        ([3, 2], RICE, 40),
        ([3, 2], RICE[:1], 64),
        ([3, 2], RICE[:0], 64),
        ([3, 2], np.append(RICE, np.uint8(0)), 64),
        ([3, 2], np.array([0, *RICE], np.uint8), 64),
        ([0, 2], RICE[:1], 5),
        ([0, 2], np.array([0x84, 0], np.uint8), 64),
        ([0, 4], np.array([0x00, 0x0F], np.uint8), 13),
        ([0, 0], RICE, 64),
        ([0, 64], RICE, 64),
        ([3, 0], RICE, 64),
    ],
)
def test_invalid_positions_are_refused(code: Any, data: np.ndarray, n: int) -> None:
    with pytest.raises(ValueError, match="positions"):
        unpack(code, data, n)
