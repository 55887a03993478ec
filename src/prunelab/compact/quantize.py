"""How is a weight kept in fewer bits without becoming 0? As float16 or, with a scale for each row, as int8."""

from collections.abc import Mapping

import torch
from torch import Tensor

BYTES = {"float16": 2, "int8": 1}  # of a value
VALUES = ("float32", *BYTES)  # float32, the type nets are trained in: values stay as they are


def narrows(tensor: Tensor, values: str) -> bool:
    """Whether `values` is narrower than `tensor`. Biases, norms and counts (fewer than 2 axes) are always left.

    Raises ValueError for values that are none.
    """
    if values not in VALUES:
        raise ValueError(f"values={values!r:.80}: expected one of {', '.join(VALUES)}")
    return tensor.is_floating_point() and tensor.dim() > 1 and BYTES.get(values, 8) < tensor.element_size()


def narrow(kept: Tensor, rows: Tensor, values: str) -> dict[str, Tensor]:
    """Flat `kept` in float16, or in int8 with a scale for each of the `rows`, ascending, that they lie in.

    Raises ValueError for what has no place there: int8 what is not finite, float16 what is beyond 65504.
    """
    return {"values": _half(kept)} if values == "float16" else _int8(kept, rows)


def widen(parts: Mapping[str, Tensor], rows: Tensor, dtype: torch.dtype) -> Tensor:
    """What `quantize` was given, rounded. Raises ValueError where scales and rows do not fit."""
    if "scale" not in parts:
        return parts["values"].to(dtype)
    rows, of = torch.unique_consecutive(rows, return_inverse=True)
    if parts["scale"].shape != rows.shape:
        raise ValueError(f"it has {len(parts['scale'])} scales, expected {len(rows)}")
    return ((parts["values"].double() + 0.5) * parts["scale"].double()[of]).to(dtype)


def _half(kept: Tensor) -> Tensor:
    """What would round to 0 becomes the smallest float16 there is, 6e-8, of its sign."""
    half, tiny = kept.half(), torch.tensor(2.0**-24, dtype=torch.float16)
    if beyond := int((half.isinf() & ~kept.isinf()).sum()):
        raise ValueError(f"{beyond} weights are beyond float16, 65504: values='float32' keeps them")
    return torch.where((half == 0) & (kept != 0), tiny.copysign(kept.half()), half)


def _int8(kept: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """q stands for (q + 0.5) * scale: 256 levels, none of them 0, and no weight is further off than half a step."""
    if wild := int((~kept.isfinite()).sum()):
        raise ValueError(f"{wild} weights are NaN or infinite, which int8 has not: values='float32' keeps them")
    rows, of = torch.unique_consecutive(rows, return_inverse=True)
    largest = torch.zeros(len(rows), dtype=kept.dtype).scatter_reduce_(0, of, kept.abs(), "amax")
    scale = _short((largest / 128).clamp(min=torch.finfo(kept.dtype).smallest_normal))  # less, and half might be 0
    q = (kept.double() / scale.double()[of]).floor().clamp(-128, 127)
    return {"values": q.to(torch.int8), "scale": scale}


def _short(scale: Tensor) -> Tensor:
    """In bfloat16, of half the bytes and the range of float32: rounded up, at most by 1/128."""
    if scale.dtype == torch.float64:
        return scale
    near = scale.to(torch.bfloat16)
    return torch.where(near.to(scale.dtype) < scale, near.nextafter(torch.full_like(near, torch.inf)), near)
