"""Where is a mask true, in few bytes? By the gaps between places, in Rice's code.

Rice 1979 (Golomb 1966 with a power of two): a gap g is g >> r in unary and the r low bits as they are. All unary
numbers come first, a byte at their end is filled with 0, then all low bits: so both are made and read as bitmaps.
With r = 0 it is a bitmap, a bit for each place up to the last.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
WIDEST = 32  # bits of a gap that are taken as they are; a file that says more is wrong


class Code(NamedTuple):
    """How `k` places are written. None or all of them take no bytes."""

    rice: int  # r
    k: int


def pack(mask: Bits) -> tuple[Code, Bytes]:
    """The places of a flat `mask`, with the r that takes the fewest bits."""
    places = np.flatnonzero(mask)
    if len(places) in (0, len(mask)):
        return Code(0, len(places)), np.empty(0, np.uint8)
    gaps = np.diff(places, prepend=-1) - 1
    r = _cheapest(gaps)
    ends = np.cumsum((gaps >> r) + 1) - 1  # in unary a number is that many 0 and a 1
    unary = np.zeros(ends[-1] + 1, np.bool_)
    unary[ends] = True
    low = (gaps[:, None] >> np.arange(r)) & 1  # (k, r), the lowest bit first
    return Code(r, len(places)), np.concatenate([np.packbits(unary), np.packbits(low.astype(np.bool_))])


def unpack(code: Any, data: Bytes, n: int) -> Bits:
    """The mask of `n` places that `pack` wrote. Raises ValueError where `code` and `data` cannot be of one."""
    r, k = _checked(code, n)
    mask = np.full(n, k == n)
    if k in (0, n):
        places, fits = np.empty(0, np.int64), len(data) == 0
    else:
        places, fits = _places(r, k, data)
    if not fits or places.min(initial=0) < 0 or places.max(initial=-1) >= n:
        raise ValueError(f"its positions are not {k} of {n}")
    mask[places] = True
    return mask


def _cheapest(gaps: NDArray[np.int64]) -> int:
    """The r of the fewest bits."""
    widths = range(min(int(gaps.max()).bit_length(), WIDEST) + 1)
    bits = [len(gaps) * (r + 1) + int((gaps >> r).sum()) for r in widths]
    return bits.index(min(bits))


def _places(r: int, k: int, data: Bytes) -> tuple[NDArray[np.int64], bool]:
    """The places, and whether there are as many bytes as they take."""
    tail = -(-k * r // 8)
    split = len(data) - tail
    ends = np.flatnonzero(np.unpackbits(data[: max(split, 0)]))
    if split < 1 or len(ends) != k or ends[-1] // 8 != split - 1:
        return ends, False
    low = np.unpackbits(data[split:], count=k * r).reshape(k, r) @ (np.int64(1) << np.arange(r))
    gaps = ((np.diff(ends, prepend=-1) - 1) << r) + low
    return np.cumsum(gaps + 1) - 1, True


def _checked(code: Any, n: int) -> Code:
    if not isinstance(code, (list, tuple)) or len(code) != 2:
        raise ValueError(f"positions={code!r:.80}: expected how they are written, and how many")
    r, k = code
    if type(k) is not int or not 0 <= k <= n or type(r) is not int or not 0 <= r <= WIDEST:
        raise ValueError(f"positions={code!r:.80}: expected at most {n}, and Rice's r from 0 to {WIDEST}")
    return Code(r, k)
