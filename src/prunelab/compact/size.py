"""How small is a file, and how small could it be? Bytes beside the entropy of its masks and the values in them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from prunelab.compact.codec import Coded


@dataclass(frozen=True)
class Size:
    """All in bytes but `footprint`, which is in bits."""

    bytes: int  # of the file, its header with it
    dense: int  # of the tensors as they were
    bound: float  # each tensor's n * H(k / n) / 8, of which k are not 0, and k values
    footprint: int  # numbers that are not 0, times the bits of each
    signs: int  # of `bytes`: which of the zeros are -0.0
    header: int  # of `bytes`: names, shapes, description

    @property
    def ratio(self) -> float:
        """Below 1 where zeros lie so that they are cheaper than at random."""
        return self.bytes / self.bound if self.bound else math.inf


def entropy(n: int, k: int) -> float:
    """Bits of which k of n, each choice as likely: n * H(k / n), with H in bits (Shannon 1948)."""
    return -sum(part * math.log2(part / n) for part in (k, n - k) if part)


def size(written: int, coded: Iterable[Coded]) -> Size:
    """Of a file of `written` bytes that holds `coded`."""
    coded = list(coded)
    return Size(
        bytes=written,
        dense=sum(one.tensor.nbytes for one in coded),
        bound=sum(entropy(one.tensor.numel(), one.k) / 8 + one.k * one.width for one in coded),
        footprint=sum(8 * one.k * one.width for one in coded),
        signs=sum(one.parts["minus"].nbytes for one in coded if "minus" in one.parts),
        header=written - sum(one.bytes for one in coded),
    )
