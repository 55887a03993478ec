"""Inputs of a module's forward, found in batches of training data of whatever form."""

import logging
from collections.abc import Callable
from typing import Any

import lightning as L
from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunelab.callbacks.scoring import draw_batches
from prunelab.channels.equivalence.trial import random_inputs
from prunelab.core.numbers.seeding import derived_generator
from prunelab.core.types import Example

log = logging.getLogger(__name__)


def training_batch(trainer: L.Trainer) -> Any:
    """One batch of the training data; None, which the log says, where none can be drawn."""
    try:
        return draw_batches(trainer, 1, derived_generator("shrink", 0))[0]
    except ValueError as error:  # no reason to end a training
        log.warning("no training batch can be drawn for surgery: %s", error)
        return None


def training_inputs(trainer: L.Trainer, example: Example, most: int) -> Example:
    """At most so many inputs from a training batch; random ones, which the log says, where it holds none."""
    inputs = inputs_within(training_batch(trainer), example)
    if inputs is None:
        log.warning("training batches hold no tensors like those of example_input_array: the inputs are random")
        return random_inputs(example)
    return tuple(x[:most] for x in inputs) if isinstance(inputs, tuple) else inputs[:most]


def inputs_within(batch: Any, example: Example) -> Example | None:
    """The tensors of `batch` in the form of `example`: for each of its tensors the first that is like it.

    Alike are tensors of equal shapes but for the first axis, or, where one has none, of as many axes (images of another
    size), both of numbers with or both of numbers without a fraction. None where one is missing.
    """
    leaves = [x for x in tree_leaves(batch) if isinstance(x, Tensor)]
    wanted = example if isinstance(example, tuple) else (example,)
    found = _alike(leaves, wanted, lambda x: x.shape[1:]) or _alike(leaves, wanted, lambda x: x.dim())
    if found is None:
        return None
    return tuple(found) if isinstance(example, tuple) else found[0]


def _alike(leaves: list[Tensor], wanted: tuple[Tensor, ...], form: Callable[[Tensor], Any]) -> list[Tensor] | None:
    left, found = list(leaves), list[Tensor]()
    for like in wanted:
        kind = (like.dim(), like.is_floating_point(), form(like))
        index = next((i for i, x in enumerate(left) if (x.dim(), x.is_floating_point(), form(x)) == kind), None)
        if index is None:
            return None
        found.append(left.pop(index))
    return found
