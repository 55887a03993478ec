"""Rounding of weights to float16, or to int8 with a scale for each row; no weight becomes 0."""

import torch
from torch import Tensor

NARROW = {"float16": torch.float16, "int8": torch.int8}
VALUES = ("float32", *NARROW)  # with float32 nothing is rounded


def stored_dtype(dtype: torch.dtype, dim: int, values: str) -> torch.dtype:
    """The dtype in which a tensor of `dim` axes is stored: that of `values` where it is narrower, else its own.

    Biases, norms and counts (fewer than 2 axes) are never rounded. Raises ValueError for unknown `values`.
    """
    if values not in VALUES:
        raise ValueError(f"values={values!r:.80}: expected one of {', '.join(VALUES)}")
    narrow = NARROW.get(values, dtype)
    return narrow if dtype.is_floating_point and dim > 1 and narrow.itemsize < dtype.itemsize else dtype


def scale_dtype(dtype: torch.dtype) -> torch.dtype:
    """That of the scales of int8. bfloat16 has half the bytes and the range of float32."""
    return dtype if dtype == torch.float64 else torch.bfloat16


def quantize(kept: Tensor, rows: Tensor, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Flat `kept` in float16 or int8, and the scales of `count` rows, none for float16; `rows` are the rows of `kept`.

    Raises ValueError for values out of range: not finite for int8, beyond 65504 for float16.
    """
    return _int8(kept, rows, count) if dtype == torch.int8 else (_half(kept), kept[:0])


def dequantize(stored: Tensor, scale: Tensor, rows: Tensor, dtype: torch.dtype) -> Tensor:
    """The rounded values."""
    if stored.dtype == torch.float16:
        return stored.to(dtype)
    return ((stored.double() + 0.5) * scale.double()[rows]).to(dtype)


def _half(kept: Tensor) -> Tensor:
    """What would round to 0 becomes the smallest float16 of its sign, 6e-8."""
    half, tiny = kept.half(), torch.tensor(2.0**-24, dtype=torch.float16)
    if beyond := int((half.isinf() & ~kept.isinf()).sum()):
        raise ValueError(f"{beyond} weights are beyond float16, 65504: values='float32' keeps them")
    return torch.where((half == 0) & (kept != 0), tiny.copysign(kept.half()), half)


def _int8(kept: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """q stands for (q + 0.5) * scale: 256 levels, none of them 0; the error is at most half a step."""
    if invalid := int((~kept.isfinite()).sum()):
        raise ValueError(f"{invalid} weights are NaN or infinite, which int8 has not: values='float32' keeps them")
    largest = torch.zeros(count, dtype=kept.dtype).scatter_reduce_(0, rows, kept.abs(), "amax")
    scale = _short((largest / 128).clamp(min=torch.finfo(kept.dtype).smallest_normal))  # else half a step might be 0
    q = (kept.double() / scale.double()[rows]).floor().clamp(-128, 127)
    return q.to(torch.int8), scale


def _short(scale: Tensor) -> Tensor:
    """In `scale_dtype`: rounded up, by at most 1/128."""
    near = scale.to(scale_dtype(scale.dtype))
    return torch.where(near.to(scale.dtype) < scale, near.nextafter(torch.full_like(near, torch.inf)), near)
