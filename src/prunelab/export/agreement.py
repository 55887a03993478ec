"""Compares the outputs of an exported file with those of its network, on several batch sizes."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunelab.core.network.torch_export import error_summary
from prunelab.core.numbers.float32 import ieee_float32
from prunelab.export.error import ExportError

TOLERANCE = 1e-4  # of the largest output
ROUNDINGS = 8  # of float16 and the like: files of resnet20, densenet40, mobilenet_v2 and vgg11 differ by 1.7 at most
BATCHES = (1, 2, 7)


def check(net: nn.Module, inputs: tuple[Tensor, ...], run: Callable[[tuple[Tensor, ...]], Sequence[Any]]) -> float:
    """The largest difference between outputs of `run` and of `net`, as a fraction of the largest output.

    Inputs are noise in the shapes and dtypes of `inputs`; integers, which may be indices, are repeated. Raises
    ExportError where the file does not run, where outputs are NaN, and where they differ by more than TOLERANCE or, in
    a type of few digits, ROUNDINGS.
    """
    return max(_check_batch(net, batch_of(inputs, n), run, n) for n in BATCHES)


def difference(actual: Tensor, expected: Tensor) -> float:
    """The largest, as a fraction of the largest finite value; equal infinities do not differ, NaN does from all."""
    wide = torch.promote_types(expected.dtype, torch.float64)
    a, b = actual.to(wide), expected.to(wide)
    differing, finite = (a - b)[a != b].abs().nan_to_num(math.inf, math.inf), b[b.isfinite()].abs()
    if not len(differing):
        return 0.0
    largest = finite.max().item() if len(finite) else 0.0
    return differing.max().item() / largest if largest else math.inf


def batch_of(inputs: tuple[Tensor, ...], n: int) -> tuple[Tensor, ...]:
    """Inputs like `inputs`, (n, ...) each; the same in every call."""
    generator = torch.Generator().manual_seed(n)
    return tuple(
        torch.randn(n, *x.shape[1:], dtype=x.dtype, generator=generator)
        if x.is_floating_point()
        else x[torch.arange(n) % len(x)]
        for x in inputs
    )


def outputs(net: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """All tensors that a network returns, whatever they are wrapped in."""
    with torch.no_grad(), ieee_float32():
        return [leaf for leaf in tree_leaves(net(*inputs)) if isinstance(leaf, Tensor)]


def _check_batch(
    net: nn.Module, inputs: tuple[Tensor, ...], run: Callable[[tuple[Tensor, ...]], Sequence[Any]], n: int
) -> float:
    expected = outputs(net, inputs)
    try:
        actual = [torch.as_tensor(value) for value in run(inputs)]
    except Exception as error:  # whatever another runtime raises
        raise ExportError(f"the file does not run on a batch of {n}: {error_summary(error)}") from error
    shapes = [[tuple(t.shape) for t in tensors] for tensors in (actual, expected)]
    if shapes[0] != shapes[1] or not expected:
        raise ExportError(f"the file returns {shapes[0]} on a batch of {n}, expected {shapes[1]}")
    if any(b.isnan().any() for b in expected):
        raise ExportError(f"{type(net).__name__} returns NaN on noise, which cannot be compared with those of the file")
    found = max(difference(a, b) for a, b in zip(actual, expected, strict=True))
    tolerance = max([TOLERANCE, *(ROUNDINGS * eps for eps in _roundings(net, inputs))])
    if found > tolerance:
        raise ExportError(
            f"the file differs from PyTorch by {found:.2g} of the largest output on a batch of {n}; allowed: "
            f"{tolerance:g}"
        )
    return found


def _roundings(net: nn.Module, inputs: tuple[Tensor, ...]) -> Iterator[float]:
    for tensor in (*net.parameters(), *net.buffers(), *inputs):
        if tensor.is_floating_point():
            yield torch.finfo(tensor.dtype).eps
