"""Rounding of weights to float16, or to int8 with a scale for each row; no weight becomes 0."""

from collections.abc import Mapping

import torch
from torch import Tensor

BYTES = {"float16": 2, "int8": 1}  # of a value
VALUES = ("float32", *BYTES)  # with float32 nothing is rounded


def is_quantized(tensor: Tensor, values: str) -> bool:
    """Whether `values` is narrower than the dtype of `tensor`. Biases, norms and counts (fewer than 2 axes) are kept.

    Raises ValueError for unknown `values`.
    """
    if values not in VALUES:
        raise ValueError(f"values={values!r:.80}: expected one of {', '.join(VALUES)}")
    return tensor.is_floating_point() and tensor.dim() > 1 and BYTES.get(values, 8) < tensor.element_size()


def quantize(kept: Tensor, rows: Tensor, values: str) -> dict[str, Tensor]:
    """Flat `kept` in float16, or in int8 with a scale for each row; `rows` are their row numbers, ascending.

    Raises ValueError for values out of range: not finite for int8, beyond 65504 for float16.
    """
    return {"values": _half(kept)} if values == "float16" else _int8(kept, rows)


def dequantize(parts: Mapping[str, Tensor], rows: Tensor, dtype: torch.dtype) -> Tensor:
    """The rounded values. Raises ValueError where scales and rows do not match."""
    if "scale" not in parts:
        return parts["values"].to(dtype)
    rows, index = torch.unique_consecutive(rows, return_inverse=True)
    if parts["scale"].shape != rows.shape:
        raise ValueError(f"it has {len(parts['scale'])} scales, expected {len(rows)}")
    return ((parts["values"].double() + 0.5) * parts["scale"].double()[index]).to(dtype)


def _half(kept: Tensor) -> Tensor:
    """What would round to 0 becomes the smallest float16 of its sign, 6e-8."""
    half, tiny = kept.half(), torch.tensor(2.0**-24, dtype=torch.float16)
    if beyond := int((half.isinf() & ~kept.isinf()).sum()):
        raise ValueError(f"{beyond} weights are beyond float16, 65504: values='float32' keeps them")
    return torch.where((half == 0) & (kept != 0), tiny.copysign(kept.half()), half)


def _int8(kept: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """q stands for (q + 0.5) * scale: 256 levels, none of them 0; the error is at most half a step."""
    if invalid := int((~kept.isfinite()).sum()):
        raise ValueError(f"{invalid} weights are NaN or infinite, which int8 has not: values='float32' keeps them")
    rows, index = torch.unique_consecutive(rows, return_inverse=True)
    largest = torch.zeros(len(rows), dtype=kept.dtype).scatter_reduce_(0, index, kept.abs(), "amax")
    scale = _short((largest / 128).clamp(min=torch.finfo(kept.dtype).smallest_normal))  # else half a step might be 0
    q = (kept.double() / scale.double()[index]).floor().clamp(-128, 127)
    return {"values": q.to(torch.int8), "scale": scale}


def _short(scale: Tensor) -> Tensor:
    """As bfloat16, with half the bytes and the range of float32: rounded up, by at most 1/128."""
    if scale.dtype == torch.float64:
        return scale
    near = scale.to(torch.bfloat16)
    return torch.where(near.to(scale.dtype) < scale, near.nextafter(torch.full_like(near, torch.inf)), near)
