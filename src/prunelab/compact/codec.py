"""Lossless or rounded encoding of tensors with many zeros: the values that are not 0, and their positions."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from prunelab.compact import rice
from prunelab.compact.quantize import dequantize, is_quantized, quantize

DTYPES = {str(d).removeprefix("torch."): d for d in vars(torch).values() if isinstance(d, torch.dtype)}
SIGNED = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # -0.0: all bits but the first are 0
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
MOST = 1 << 28  # values that may be encoded: zeros cost no bytes, so a small file could claim any number
PART, RECORD = 90, 60  # bytes of the header for one more part, and for a record, roughly


class Encoded(NamedTuple):
    """A tensor as parts to be written, and a JSON record of them; {} where the one part is the tensor itself."""

    record: dict[str, Any]
    parts: dict[str, Tensor]
    tensor: Tensor  # the original
    k: int  # elements that are not 0

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in self.parts.values())

    @property
    def width(self) -> int:
        """Bytes of a value."""
        return next((part.element_size() for name, part in self.parts.items() if name in ("values", "whole")), 0)


def encode(tensor: Tensor, values: str = "float32", signed_zeros: bool = True) -> Encoded:
    """The smallest of: the tensor; a bitmap and values; gaps in Rice code and values.

    "float32" keeps each value in its own dtype, to the bit; "float16" and "int8" round weights (quantize.py), and no
    weight becomes 0. Signs of zeros are kept where nothing is rounded; they cost up to a bit each, and without
    `signed_zeros` -0.0 becomes 0.0. Raises ValueError for values out of range.
    """
    flat = tensor.detach().cpu().contiguous().flatten()
    if flat.element_size() not in BITS or flat.numel() > MOST:
        return Encoded({}, {"whole": flat.view(tensor.shape)}, tensor, flat.numel())
    rounded = values if is_quantized(tensor, values) else None
    if flat.dtype in SIGNED and (rounded or not signed_zeros):
        flat = flat.masked_fill(_negative_zeros(flat), 0)
    kept = _kept(flat)
    sparse, k = _sparse(tensor, flat, kept, rounded), int(kept.sum())
    choice = [Encoded(*sparse, tensor, k)]
    if rounded is None:
        choice.append(Encoded({}, {"whole": flat.view(tensor.shape)}, tensor, k))
    elif rounded != "int8":  # int8 codes have no 0
        choice.append(Encoded(*_sparse(tensor, flat, torch.ones_like(kept), rounded), tensor, k))
    return min(choice, key=_cost)


def decode(record: Mapping[str, Any], parts: Mapping[str, Tensor]) -> Tensor:
    """The tensor, in memory of its own. Raises ValueError where the record and the parts do not match."""
    if not record:
        return parts["whole"].clone()
    dtype, shape = _dtype(record), shape_of(record)
    kept = _unpack(record["kept"], parts.get("kept"), math.prod(shape))
    values, k = parts.get("values", torch.empty(0, dtype=dtype)), int(kept.sum())
    if values.shape != (k,):
        raise ValueError(f"it has {values.numel()} values, expected {k}")
    flat = torch.zeros(len(kept), dtype=dtype)
    if values.dtype != dtype:
        values = dequantize(parts, _rows(kept, shape), dtype)
    _bits(flat)[kept] = _bits(values)
    if "minus" in record:
        _bits(flat)[_unpack(record["minus"], parts.get("minus"), len(kept))] = torch.iinfo(_bits(flat).dtype).min
    return flat.view(shape)


def shape_of(record: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape in a record that is not {}. Raises ValueError for one of more than MOST values."""
    shape = record.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"shape={shape!r:.80}: expected a list of sizes")
    if math.prod(shape) > MOST:
        raise ValueError(f"shape={shape!r:.80}: expected at most {MOST:,} values")
    return tuple(shape)


def part_names(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts that a record may have."""
    return ("values", "kept", "minus", "scale") if record else ("whole",)


def _sparse(tensor: Tensor, flat: Tensor, kept: Tensor, values: str | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The record, and the parts that are not empty."""
    code, positions = rice.pack(kept.numpy())
    record: dict[str, Any] = {"dtype": str(flat.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
    record["kept"] = list(code)
    nonzero = flat[kept]
    parts = quantize(nonzero, _rows(kept, tensor.shape), values) if values else {"values": nonzero}
    parts["kept"] = torch.from_numpy(positions)
    if flat.dtype in SIGNED and (minus := _negative_zeros(flat)).any():
        code, positions = rice.pack(minus.numpy())
        record["minus"], parts["minus"] = list(code), torch.from_numpy(positions)
    return record, {name: part for name, part in parts.items() if part.numel()}


def _kept(flat: Tensor) -> Tensor:
    """Bool, (n,): what is not 0, by its bits: denormal numbers may compare equal to 0 (torch.set_flush_denormal)."""
    nonzero = _bits(flat) != 0
    return nonzero & ~_negative_zeros(flat) if flat.dtype in SIGNED else nonzero


def _negative_zeros(flat: Tensor) -> Tensor:
    """Bool, (n,): what is -0.0; for dtypes in SIGNED."""
    return _bits(flat) == torch.iinfo(_bits(flat).dtype).min


def _bits(flat: Tensor) -> Tensor:
    return flat.view(BITS[flat.element_size()])


def _rows(kept: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """(k,): the index along the first axis (output channel) of each kept element, ascending."""
    return kept.nonzero().flatten() // max(1, math.prod(shape[1:]))


def _cost(coded: Encoded) -> int:
    return coded.bytes + PART * len(coded.parts) + (RECORD if coded.record else 0)


def _dtype(record: Mapping[str, Any]) -> torch.dtype:
    dtype = record.get("dtype")
    if not isinstance(dtype, str) or dtype not in DTYPES or DTYPES[dtype].itemsize not in BITS:
        raise ValueError(f"dtype={dtype!r:.80}: expected a torch dtype")
    return DTYPES[dtype]


def _unpack(code: Any, part: Tensor | None, n: int) -> Tensor:
    data = part.numpy() if part is not None else np.empty(0, np.uint8)
    if data.dtype != np.uint8 or data.ndim != 1:
        raise ValueError(f"its positions are {data.dtype} with {data.ndim} axes, expected bytes")
    return torch.from_numpy(rice.unpack(code, data, n))


@dataclass(frozen=True)
class Size:
    """All in bytes, except `footprint` in bits."""

    bytes: int  # of the file with its header
    dense: int  # of the original tensors
    bound: float  # sum over tensors, k of n not 0: n * H(k / n) / 8, and k values
    footprint: int  # non-zeros x bits of each
    signs: int  # part of `bytes`: which zeros are -0.0
    header: int  # part of `bytes`: names, shapes, description

    @property
    def ratio(self) -> float:
        """Below 1 where the positions of zeros are more regular than random."""
        return self.bytes / self.bound if self.bound else math.inf


def entropy(n: int, k: int) -> float:
    """Bits to say which k of n, all choices equally likely: n * H(k / n), H in bits (Shannon 1948)."""
    return -sum(part * math.log2(part / n) for part in (k, n - k) if part)


def size(written: int, encoded: Iterable[Encoded]) -> Size:
    """The size of a file of `written` bytes that holds `encoded`."""
    encoded = list(encoded)
    return Size(
        bytes=written,
        dense=sum(each.tensor.nbytes for each in encoded),
        bound=sum(entropy(each.tensor.numel(), each.k) / 8 + each.k * each.width for each in encoded),
        footprint=sum(8 * each.k * each.width for each in encoded),
        signs=sum(each.parts["minus"].nbytes for each in encoded if "minus" in each.parts),
        header=written - sum(each.bytes for each in encoded),
    )
