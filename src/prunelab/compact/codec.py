"""Lossless or rounded encoding of tensors with many zeros: values that are not 0, and their positions, deflated."""

import hashlib
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from prunelab.compact.quantize import dequantize, quantize, scale_dtype, stored_dtype
from prunelab.core.numbers.bits import pack_bits, unpack_bits

DTYPES = {str(d).removeprefix("torch."): d for d in vars(torch).values() if isinstance(d, torch.dtype)}
SIGNED = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # -0.0: all bits but the first are 0
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
MOST = 1 << 28  # values of a tensor with zeros: they take hardly a byte, so a small file could claim any number
RARE = 16  # one value in so many, from which the gaps between them take fewer bytes than a bitmap
BLOCK = 64  # bytes from which a Huffman code of its own pays
DAMAGED = "does not match its sha256: the file is damaged or was changed; copy it again"


class Record(NamedTuple):
    """What `decode` must know beside the bytes."""

    dtype: str
    shape: Sequence[int]
    kept: int  # values that are stored: those that are not 0, or all
    values: str  # as for `encode`
    signs: bool  # whether those of zeros are stored
    bytes: int
    sha256: str  # `digest` of the bytes


def encode(tensor: Tensor, values: str = "float32", signed_zeros: bool = True) -> tuple[Record, bytes]:
    """A tensor as bytes: positions, values, scales, signs of zeros, each of which may be empty.

    "float32" keeps each value in its own dtype, to the bit; "float16" and "int8" round weights (quantize.py), and no
    weight becomes 0. Signs of zeros are kept where nothing is rounded; they cost up to a bit each, and without
    `signed_zeros` -0.0 becomes 0.0. More than MOST values are kept as they are. Raises ValueError for values out of
    range.
    """
    flat = tensor.detach().cpu().contiguous().flatten()
    kept, values = _kept(flat), values if len(flat) <= MOST else "float32"
    stored, scale, signs, none = flat[kept], flat[:0], flat[:0], flat[:0]
    dtype = stored_dtype(flat.dtype, tensor.dim(), values)
    if dtype != flat.dtype:
        stored, scale = quantize(stored, _rows(kept, tensor.shape), len(tensor), dtype)
    elif signed_zeros and flat.dtype in SIGNED:
        signs = _bits(flat[~kept]) < 0
    minus = bool(signs.any())
    parts = [_positions(kept), stored, scale, pack_bits(signs) if minus else none]
    data = _deflate(plane for part in parts for plane in _planes(part))
    name, shape = str(flat.dtype).removeprefix("torch."), tuple(tensor.shape)
    return Record(name, shape, len(stored), values, minus, len(data), digest(data)), data


def decode(record: Record, data: bytes) -> Tensor:
    """The tensor, in memory of its own. Raises ValueError where the record and the bytes do not match."""
    if digest(data) != record.sha256:
        raise ValueError(f"it {DAMAGED}")
    dtype, n = DTYPES[record.dtype], math.prod(record.shape)
    positions, stored, scale, signs = _split(data, _layout(record))
    kept = _unpacked(positions, len(stored), n)
    if stored.dtype != dtype:
        stored = dequantize(stored, scale, _rows(kept, record.shape), dtype)
    flat = torch.zeros(n, dtype=dtype)
    _bits(flat).masked_scatter_(kept, _bits(stored))  # float8 and others are stored, but not computed with
    if record.signs:
        bits = _bits(flat)
        bits[~kept] = unpack_bits(signs, n - len(stored)).to(bits.dtype) * torch.iinfo(bits.dtype).min
    return flat.view(tuple(record.shape))


def checked(fields: Any) -> Record:
    """The record in a file. Raises ValueError for what `encode` does not return."""
    if not isinstance(fields, list) or len(fields) != len(Record._fields):
        raise ValueError(f"record={fields!r:.80}: expected {', '.join(Record._fields)}")
    dtype, shape, kept, values, signs, size, sha256 = fields
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r:.80}: expected a torch dtype")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 1 << 63 for size in shape):
        raise ValueError(f"shape={shape!r:.80}: expected a list of sizes")
    if type(kept) is not int or not 0 <= kept <= math.prod(shape):
        raise ValueError(f"kept={kept!r:.80}: expected at most {math.prod(shape):,}")
    if kept < math.prod(shape) > MOST:
        raise ValueError(f"shape={shape!r:.80}: expected at most {MOST:,} values")
    if type(signs) is not bool or signs > (DTYPES[dtype] in SIGNED):
        raise ValueError(f"signs={signs!r:.80}: expected false, or true for floats")
    if type(size) is not int or size < 1:
        raise ValueError(f"bytes={size!r:.80}: expected a positive number")
    stored_dtype(DTYPES[dtype], len(shape), values)
    return Record(dtype, tuple(shape), kept, values, signs, size, sha256)


def digest(data: bytes) -> str:
    """Sixteen digits: enough to detect damage."""
    return hashlib.sha256(data).hexdigest()[:16]


def inflate(data: bytes, most: int) -> bytes:
    """What `data` was. Raises ValueError for more than `most` bytes, of which no more are made."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = stream.decompress(data, most + 1)
    except (zlib.error, OverflowError) as error:
        raise ValueError(f"it cannot be inflated: {error}") from error
    if len(found) > most or not stream.eof or stream.unused_data:
        raise ValueError(f"it does not inflate to at most {most:,} bytes")
    return found


def _deflate(planes: Iterable[bytes]) -> bytes:
    """Each in a block of its own, for a Huffman code of its own. Repeats other than runs cost time and save nothing."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS, strategy=zlib.Z_RLE)
    ends = ((plane, zlib.Z_BLOCK if len(plane) >= BLOCK else zlib.Z_NO_FLUSH) for plane in planes)
    return b"".join(stream.compress(plane) + stream.flush(end) for plane, end in ends) + stream.flush()


def _planes(part: Tensor) -> Iterator[bytes]:
    """The first byte of every number, then every second byte, ...: exponents repeat, mantissas do not."""
    for plane in part[:, None].view(torch.uint8).T:
        yield plane.contiguous().numpy().tobytes()


def _layout(record: Record) -> list[tuple[torch.dtype, int]]:
    """The dtypes and lengths of positions, values, scales and signs."""
    dtype, n, k = DTYPES[record.dtype], math.prod(record.shape), record.kept
    stored = stored_dtype(dtype, len(record.shape), record.values)
    return [
        (torch.int32, k) if RARE * k < n else (torch.uint8, 0 if k == n else -(-n // 8)),
        (stored, k),
        (scale_dtype(dtype), record.shape[0] if stored == torch.int8 != dtype else 0),
        (torch.uint8, -(-(n - k) // 8) if record.signs else 0),
    ]


def _split(data: bytes, layout: Sequence[tuple[torch.dtype, int]]) -> list[Tensor]:
    sizes = [dtype.itemsize * count for dtype, count in layout]
    whole = torch.tensor(np.frombuffer(inflate(data, sum(sizes)), np.uint8))
    if len(whole) != sum(sizes):
        raise ValueError(f"it inflates to {len(whole):,} bytes, expected {sum(sizes):,}")
    return [
        part.view(dtype.itemsize, count).T.clone(memory_format=torch.contiguous_format).flatten().view(dtype)
        for part, (dtype, count) in zip(whole.split(sizes), layout, strict=True)
    ]


def _positions(kept: Tensor) -> Tensor:
    """Those of True: the gaps before each where they are rare, else a bitmap; nothing where all are."""
    at = kept.nonzero().flatten()
    if RARE * len(at) < len(kept):
        return (at.diff(prepend=at.new_tensor([-1])) - 1).int()
    return pack_bits(kept) if len(at) < len(kept) else kept[:0]


def _unpacked(positions: Tensor, k: int, n: int) -> Tensor:
    """Bool, (n,): True at k positions. Raises ValueError for others."""
    if RARE * k < n:
        at = (positions.long() + 1).cumsum(0) - 1
        if k and (int(positions.min()) < 0 or int(at[-1]) >= n):
            raise ValueError(f"its positions are not {k:,} of {n:,}")
        return torch.zeros(n, dtype=torch.bool).index_fill_(0, at, True)
    kept = unpack_bits(positions, n) if k < n else torch.full((n,), True)
    if int(kept.sum()) != k:
        raise ValueError(f"its positions are not {k:,} of {n:,}")
    return kept


def _kept(flat: Tensor) -> Tensor:
    """Bool, (n,): what is stored: not 0, by its bits, as denormal numbers may compare equal to 0; else all."""
    if flat.element_size() not in BITS or len(flat) > MOST:
        return torch.ones(len(flat), dtype=torch.bool)
    return (_bits(flat) << 1 if flat.dtype in SIGNED else _bits(flat)) != 0


def _bits(flat: Tensor) -> Tensor:
    """As integers; a type that is wider than all stays."""
    return flat.view(BITS.get(flat.element_size(), flat.dtype))


def _rows(kept: Tensor, shape: Sequence[int]) -> Tensor:
    """(k,): the index along the first axis of each stored value."""
    return kept.nonzero().flatten() // max(1, math.prod(shape[1:]))
