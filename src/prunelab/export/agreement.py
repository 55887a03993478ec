"""Does a file compute what its net computes? It is run beside the net on several batch sizes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunelab.core.torch_export import error_summary
from prunelab.export.error import ExportError

TOLERANCE = 1e-4  # of the largest output
BATCHES = (1, 2, 7)


def check(net: nn.Module, inputs: tuple[Tensor, ...], run: Callable[[tuple[Tensor, ...]], Sequence[Any]]) -> float:
    """The largest difference of an output of `run` from that of `net`, in eval mode, as a part of the largest.

    Inputs are noise in the shapes and types of `inputs`; whole numbers, which may be indices, are repeated. Raises
    ExportError where one of the two does not run, and where they differ by more than TOLERANCE.
    """
    return max(_check_batch(net, batch_of(inputs, n), run, n) for n in BATCHES)


def batch_of(inputs: tuple[Tensor, ...], n: int) -> tuple[Tensor, ...]:
    """Inputs like `inputs`, (n, ...) each; always the same."""
    generator = torch.Generator().manual_seed(n)
    return tuple(
        torch.randn(n, *x.shape[1:], dtype=x.dtype, generator=generator)
        if x.is_floating_point()
        else x[torch.arange(n) % len(x)]
        for x in inputs
    )


def outputs(net: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """All tensors that a net puts out, whatever they are wrapped in."""
    with torch.no_grad():
        return [leaf for leaf in tree_leaves(net(*inputs)) if isinstance(leaf, Tensor)]


def _check_batch(
    net: nn.Module, inputs: tuple[Tensor, ...], run: Callable[[tuple[Tensor, ...]], Sequence[Any]], n: int
) -> float:
    expected = outputs(net, inputs)
    try:
        found = [torch.as_tensor(value) for value in run(inputs)]
    except Exception as error:  # whatever another runtime raises
        raise ExportError(f"the file does not run on a batch of {n}: {error_summary(error)}") from error
    shapes = [[tuple(t.shape) for t in tensors] for tensors in (found, expected)]
    if shapes[0] != shapes[1] or not expected:
        raise ExportError(f"the file puts out {shapes[0]} on a batch of {n}, expected {shapes[1]}")
    difference = max(_difference(a, b) for a, b in zip(found, expected, strict=True))
    if not difference <= TOLERANCE:  # nor is NaN
        raise ExportError(
            f"the file differs from PyTorch by {difference:.2g} of the largest output on a batch of {n}, allowed is "
            f"{TOLERANCE:g}"
        )
    return difference


def _difference(found: Tensor, expected: Tensor) -> float:
    apart, largest = (found.double() - expected.double()).abs().max().item(), expected.double().abs().max().item()
    return apart / largest if apart else 0.0
