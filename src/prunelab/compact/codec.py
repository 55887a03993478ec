"""How is a tensor with many zeros written small, and read back? Its values, and where they lie."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from prunelab.compact import quantize, rice

DTYPES = {str(d).removeprefix("torch."): d for d in vars(torch).values() if isinstance(d, torch.dtype)}
SIGNED = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # all of their bits but the first are 0: -0.0
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
PART, RECORD = 90, 60  # bytes of the header that one more part takes, and what is said of it, roughly


class Coded(NamedTuple):
    """A tensor as tensors to be written, and as JSON what they are; {} where that is the tensor itself."""

    record: dict[str, Any]
    parts: dict[str, Tensor]
    tensor: Tensor  # as it was
    k: int  # of its elements are not 0

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in self.parts.values())

    @property
    def width(self) -> int:
        """Bytes of a value."""
        return next((part.element_size() for name, part in self.parts.items() if name in ("values", "whole")), 0)


def encode(tensor: Tensor, values: str = "float32", signed_zeros: bool = True) -> Coded:
    """The cheapest of: the tensor; a bitmap and values; gaps in Rice's code and values.

    "float32" keeps each value in its own type, to the bit; "float16" and "int8" round those of weights (narrow.py),
    and zeros stay where they are, and nowhere else. Signs of zeros are kept where nothing is rounded; they cost up to
    a bit each, and without `signed_zeros` -0.0 becomes 0.0. Raises ValueError for what the values have no place for.
    """
    flat = tensor.detach().cpu().contiguous().flatten()
    if flat.element_size() not in BITS:
        return Coded({}, {"whole": flat.view(tensor.shape)}, tensor, flat.numel())
    narrowed = values if quantize.narrows(tensor, values) else None
    if flat.dtype in SIGNED and (narrowed or not signed_zeros):
        flat = flat.masked_fill(_minus(flat), 0)
    kept = _kept(flat)
    sparse, k = _sparse(tensor, flat, kept, narrowed), int(kept.sum())
    choice = [Coded(*sparse, tensor, k)]
    if narrowed is None:
        choice.append(Coded({}, {"whole": flat.view(tensor.shape)}, tensor, k))
    elif narrowed != "int8":  # which has no 0
        choice.append(Coded(*_sparse(tensor, flat, torch.ones_like(kept), narrowed), tensor, k))
    return min(choice, key=_cost)


def decode(record: Mapping[str, Any], parts: Mapping[str, Tensor]) -> Tensor:
    """The tensor, in memory of its own. Raises ValueError where the record and the parts do not fit each other."""
    if not record:
        return parts["whole"].clone()
    dtype, shape = _described(record)
    kept = _unpacked(record["kept"], parts.get("kept"), math.prod(shape))
    values, k = parts.get("values", torch.empty(0, dtype=dtype)), int(kept.sum())
    if values.shape != (k,):
        raise ValueError(f"it has {values.numel()} values, expected {k}")
    flat = torch.zeros(len(kept), dtype=dtype)
    if values.dtype != dtype:
        values = quantize.widen(parts, _rows(kept, shape), dtype)
    _bits(flat)[kept] = _bits(values)
    if "minus" in record:
        _bits(flat)[_unpacked(record["minus"], parts.get("minus"), len(kept))] = torch.iinfo(_bits(flat).dtype).min
    return flat.view(shape)


def names(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts that a record may come with."""
    return ("values", "kept", "minus", "scale") if record else ("whole",)


def _sparse(tensor: Tensor, flat: Tensor, kept: Tensor, values: str | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The record, and the parts that have anything in them."""
    code, places = rice.pack(kept.numpy())
    record: dict[str, Any] = {"dtype": str(flat.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
    record["kept"] = list(code)
    chosen = flat[kept]
    parts = quantize.narrow(chosen, _rows(kept, tensor.shape), values) if values else {"values": chosen}
    parts["kept"] = torch.from_numpy(places)
    if flat.dtype in SIGNED and (minus := _minus(flat)).any():
        code, places = rice.pack(minus.numpy())
        record["minus"], parts["minus"] = list(code), torch.from_numpy(places)
    return record, {name: part for name, part in parts.items() if part.numel()}


def _kept(flat: Tensor) -> Tensor:
    """Bool, (n,): what is not 0. By its bits, for denormal numbers may count as 0 (torch.set_flush_denormal)."""
    alive = _bits(flat) != 0
    return alive & ~_minus(flat) if flat.dtype in SIGNED else alive


def _minus(flat: Tensor) -> Tensor:
    """Bool, (n,): what is -0.0, in types of SIGNED."""
    return _bits(flat) == torch.iinfo(_bits(flat).dtype).min


def _bits(flat: Tensor) -> Tensor:
    return flat.view(BITS[flat.element_size()])


def _rows(kept: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """(k,): the output channel, along the first axis, of each element that is kept; ascending."""
    return kept.nonzero().flatten() // max(1, math.prod(shape[1:]))


def _cost(coded: Coded) -> int:
    return coded.bytes + PART * len(coded.parts) + (RECORD if coded.record else 0)


def _described(record: Mapping[str, Any]) -> tuple[torch.dtype, tuple[int, ...]]:
    dtype, shape = record.get("dtype"), record.get("shape")
    if not isinstance(dtype, str) or dtype not in DTYPES or DTYPES[dtype].itemsize not in BITS:
        raise ValueError(f"dtype={dtype!r:.80}: expected a type of torch")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"shape={shape!r:.80}: expected a list of sizes")
    return DTYPES[dtype], tuple(shape)


def _unpacked(code: Any, part: Tensor | None, n: int) -> Tensor:
    data = part.numpy() if part is not None else np.empty(0, np.uint8)
    if data.dtype != np.uint8 or data.ndim != 1:
        raise ValueError(f"its positions are {data.dtype} with {data.ndim} axes, expected bytes")
    return torch.from_numpy(rice.unpack(code, data, n))


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
