"""Bits in bytes: eight a byte, the first in the highest bit, the last byte filled with 0."""

import numpy as np
import torch
from torch import Tensor


def pack_bits(mask: Tensor) -> Tensor:
    """A bool tensor of any shape as uint8, (ceil(n / 8),), on the CPU."""
    return torch.from_numpy(np.packbits(mask.reshape(-1).cpu().numpy()))


def unpack_bits(packed: Tensor, count: int | None = None) -> Tensor:
    """The first `count` bits, or all: bool, (count,)."""
    return torch.from_numpy(np.unpackbits(packed.numpy(), count=count).view(np.bool_))
