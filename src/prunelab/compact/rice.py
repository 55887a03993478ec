"""Rice coding of the positions at which a mask is true, by the gaps between them.

Rice 1979 (Golomb 1966 with a power of two): a gap g is g >> r in unary, followed by its r low bits. Here all unary
numbers come first, padded with 0 to a whole byte, then all low bits, so that both are written and read as bitmaps.
With r = 0 it is a bitmap, one bit for each position up to the last.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
WIDEST = 32  # largest r; a file with a larger one is damaged


class Code(NamedTuple):
    """How `k` positions are written. None or all of them take no bytes."""

    rice: int  # r
    k: int


def pack(mask: Bits) -> tuple[Code, Bytes]:
    """Encodes the positions of a flat `mask`, with the r that takes the fewest bits."""
    positions = np.flatnonzero(mask)
    if len(positions) in (0, len(mask)):
        return Code(0, len(positions)), np.empty(0, np.uint8)
    gaps = np.diff(positions, prepend=-1) - 1
    r = _cheapest(gaps)
    ends = np.cumsum((gaps >> r) + 1) - 1  # in unary n is n zeros and a one
    unary = np.zeros(ends[-1] + 1, np.bool_)
    unary[ends] = True
    low = (gaps[:, None] >> np.arange(r)) & 1  # (k, r), the lowest bit first
    return Code(r, len(positions)), np.concatenate([np.packbits(unary), np.packbits(low.astype(np.bool_))])


def unpack(code: Any, data: Bytes, n: int) -> Bits:
    """The mask of length `n` that `pack` encoded. Raises ValueError where `code` and `data` do not match."""
    r, k = _checked(code, n)
    mask = np.full(n, k == n)
    if k in (0, n):
        positions, fits = np.empty(0, np.int64), len(data) == 0
    else:
        positions, fits = _positions(r, k, data)
    if not fits or positions.min(initial=0) < 0 or positions.max(initial=-1) >= n:
        raise ValueError(f"its positions are not {k} of {n}")
    mask[positions] = True
    return mask


def _cheapest(gaps: NDArray[np.int64]) -> int:
    """The r that takes the fewest bits."""
    widths = range(min(int(gaps.max()).bit_length(), WIDEST) + 1)
    bits = [len(gaps) * (r + 1) + int((gaps >> r).sum()) for r in widths]
    return bits.index(min(bits))


def _positions(r: int, k: int, data: Bytes) -> tuple[NDArray[np.int64], bool]:
    """The positions, and whether `data` has as many bytes as they take."""
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
        raise ValueError(f"positions={code!r:.80}: expected a list of r and their number")
    r, k = code
    if type(k) is not int or not 0 <= k <= n or type(r) is not int or not 0 <= r <= WIDEST:
        raise ValueError(f"positions={code!r:.80}: expected at most {n}, and Rice's r from 0 to {WIDEST}")
    return Code(r, k)
