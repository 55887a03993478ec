"""Compares the outputs of an exported file with those of its network, on several batch sizes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunelab.core.network.torch_export import error_summary
from prunelab.core.numbers.float32 import ieee_float32
from prunelab.export.error import ExportError

TOLERANCE = 1e-4  # of the largest output
BATCHES = (1, 2, 7)


def check(net: nn.Module, inputs: tuple[Tensor, ...], run: Callable[[tuple[Tensor, ...]], Sequence[Any]]) -> float:
    """The largest difference between outputs of `run` and of `net`, as a fraction of the largest output.

    Inputs are noise in the shapes and dtypes of `inputs`; integers, which may be indices, are repeated. Raises
    ExportError where the file does not run, and where they differ by more than TOLERANCE.
    """
    return max(_check_batch(net, batch_of(inputs, n), run, n) for n in BATCHES)


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
    difference = max(_difference(a, b) for a, b in zip(actual, expected, strict=True))
    if not difference <= TOLERANCE:  # also true of NaN
        raise ExportError(
            f"the file differs from PyTorch by {difference:.2g} of the largest output on a batch of {n}; allowed: "
            f"{TOLERANCE:g}"
        )
    return difference


def _difference(actual: Tensor, expected: Tensor) -> float:
    difference, largest = (actual.double() - expected.double()).abs().max().item(), expected.double().abs().max().item()
    return difference / largest if difference else 0.0
