"""Batches of the user's own, checked against the example."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.core.context import Batch
from prunelab.core.network.preserve import preserve_state
from prunelab.core.types import Example
from prunelab.measure.latency import resized, suited


def check_example(net: nn.Module, example: Any) -> None:
    """Raises ValueError unless it is a batch of inputs: a tensor (n, ...), or a tuple of such, n >= 1."""
    inputs = example if isinstance(example, tuple) else (example,)
    if not inputs or not all(isinstance(x, Tensor) for x in inputs):
        raise ValueError(f"example is a {type(example).__name__}: expected a tensor, or a tuple of tensors")
    if not all(x.dim() and len(x) for x in inputs):
        raise ValueError(f"example of shape {_shapes(inputs)}: expected tensors (n, ...), n >= 1")
    alone = tuple(x[None] for x in inputs)
    if not _runs_at_any_size(net, example) and _runs_at_any_size(net, alone):
        raise ValueError(f"example of shape {_shapes(inputs)} has no batch axis: expected {_shapes(alone)}, as x[None]")


def _runs_at_any_size(net: nn.Module, example: Example) -> bool:
    return all(_runs(net, resized(example, n)) for n in (1, 2))


def _runs(net: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    try:
        with preserve_state(net), torch.compiler.set_stance("force_eager"):
            net(*suited(net, inputs))
    except Exception:  # of the network's own code, whatever
        return False
    return True


def _shapes(inputs: tuple[Tensor, ...]) -> str:
    return ", ".join(str(tuple(x.shape)) for x in inputs)


def take(data: Iterable[Any], count: int, net: nn.Module, example: Example) -> list[Batch]:
    """The first `count` batches, as (inputs, targets), on the network's device; the targets of bare inputs are None.

    Raises ValueError for fewer, and for inputs that are not like `example` in all but their number.
    """
    batches = [_pair(batch) for batch in islice(data, count)]
    if len(batches) < count:
        raise ValueError(
            f"data= ends after {len(batches)} of the {count} batches that the criterion scores on: give more, or "
            f"criterion__batches={max(1, len(batches))}"
        )
    wanted = example if isinstance(example, tuple) else (example,)
    for inputs, _ in batches:
        if [x.shape[1:] for x in inputs] != [x.shape[1:] for x in wanted]:
            several = ", as ((a, b), targets)" if len(wanted) > 1 else ""
            raise ValueError(
                f"data= has inputs of shape {_shapes(inputs)}, the example is {_shapes(wanted)}: expected the same but "
                f"for their number{several}"
            )
    on_device = [(suited(net, inputs), _beside(targets, net)) for inputs, targets in batches]
    return [(inputs if isinstance(example, tuple) else inputs[0], targets) for inputs, targets in on_device]


def _pair(batch: Any) -> tuple[tuple[Tensor, ...], Any]:
    inputs, targets = batch if isinstance(batch, tuple | list) and len(batch) == 2 else (batch, None)
    tensors = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    if not all(isinstance(x, Tensor) and x.dim() for x in tensors):
        raise ValueError(
            f"data= has a batch of type {type(batch).__name__}: expected (inputs, targets), or inputs, which are a "
            "tensor, or a tuple of several"
        )
    return tensors, targets


def _beside(targets: Any, net: nn.Module) -> Any:
    return targets.to(next(net.parameters()).device) if isinstance(targets, Tensor) else targets
