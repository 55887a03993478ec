"""Packed bits, against bytes worked out by hand."""

import pytest
import torch

from prunelab.core.numbers.bits import pack_bits, unpack_bits


def test_the_first_bit_is_the_highest_and_the_last_byte_is_filled_with_zeros() -> None:
    mask = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 1, 1]], dtype=torch.bool)
    packed = pack_bits(mask)
    assert packed.dtype == torch.uint8
    assert packed.tolist() == [0b10110000, 0b11000000]
    assert torch.equal(unpack_bits(packed, 10), mask.flatten())
    assert unpack_bits(packed).tolist() == [*mask.flatten().tolist(), *[False] * 6]


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 1000])
def test_bits_come_back(n: int) -> None:
    mask = torch.rand(n) < 0.5
    packed = pack_bits(mask)
    assert packed.shape == (-(-n // 8),)
    assert torch.equal(unpack_bits(packed, n), mask)
