"""Batches of the user's own, checked against the example."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from torch import Tensor, nn

from prunelab.core.context import Batch
from prunelab.core.types import Example
from prunelab.measure.latency import suited


def check_example(example: object) -> None:
    """Raises ValueError unless it is a tensor, or a tuple of tensors."""
    inputs = example if isinstance(example, tuple) else (example,)
    if not inputs or not all(isinstance(x, Tensor) for x in inputs):
        raise ValueError(f"example is a {type(example).__name__}: expected a tensor, or a tuple of tensors")


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
    one = (example,) if isinstance(example, Tensor) else example
    for inputs, _ in batches:
        if len(one) != 1 or inputs.shape[1:] != one[0].shape[1:]:
            shapes = ", ".join(str(tuple(x.shape)) for x in one)
            raise ValueError(
                f"data= has inputs of shape {tuple(inputs.shape)}, the example is {shapes}: expected the same but for "
                "their number"
            )
    return [(suited(net, inputs)[0], _beside(targets, net)) for inputs, targets in batches]


def _pair(batch: Any) -> tuple[Tensor, Any]:
    inputs, targets = batch if isinstance(batch, tuple | list) and len(batch) == 2 else (batch, None)
    if not isinstance(inputs, Tensor):
        raise ValueError(
            f"data= has a batch of type {type(batch).__name__}: expected (inputs, targets), or inputs, of one tensor"
        )
    return inputs, targets


def _beside(targets: Any, net: nn.Module) -> Any:
    return targets.to(next(net.parameters()).device) if isinstance(targets, Tensor) else targets
