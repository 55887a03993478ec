"""What operations do to channels, worked out by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Node

from prunelab.channels.tracing.probe import Law, elementwise, law, partitions

aten = torch.ops.aten


class Does(nn.Module):
    def __init__(self, does: Callable[..., Any]) -> None:
        super().__init__()
        self.does = does

    def forward(self, *x: Tensor) -> Any:
        return self.does(*x)


def operation(does: Callable[..., Any], *inputs: Tensor) -> Node:
    """The first in the program of `does`."""
    program = torch.export.export(Does(does), inputs)
    return next(node for node in program.graph.nodes if node.op == "call_function")


X, PER_CHANNEL, PLACES = torch.zeros(2, 4, 6, 6), torch.zeros(4, 1, 1, dtype=torch.bool), torch.zeros(6, 6)
LAWS: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], tuple[int | None, ...], Law | None]] = {
    "softmax over space": (lambda x: x.softmax(-1), (X,), (1,), Law((1,), (1,))),
    "softmax over channels": (lambda x: x.softmax(1), (X,), (1,), None),
    "cumulative sum of channels": (lambda x: x.cumsum(1), (X,), (1,), None),
    "transposed": (lambda x: x.mT, (X,), (2,), Law((2,), (3,))),
    "a product over space": (lambda x, y: x @ y, (X, PLACES), (1, None), Law((1, None), (1,))),
    "a product over channels": (lambda x, y: x @ y, (X, PLACES), (3, None), None),
    "two results": (lambda x: aten.max_pool2d_with_indices(x, [2, 2]), (X,), (1,), Law((1,), (1, 1))),
    "a constant of one value a channel": (
        lambda x, y: aten.masked_fill(x, y, 1.0), (X, PER_CHANNEL), (1, None), Law((1, 0), (1,))),
    "several inputs": (lambda x, y: torch.logaddexp(x, y), (X, X.clone()), (1, 1), Law((1, 1), (1,))),
    "infinitely steep at two zeros": (lambda x, y: torch.hypot(x, y), (X, X.clone()), (1, 1), None),
    "pairs of neighbours": (lambda x: F.group_norm(x, 2), (X,), (1,), None),
    "pairs two apart": (lambda x: aten.channel_shuffle(x, 2), (X,), (1,), None),
    "infinite at 0": (lambda x: x.log(), (X,), (1,), None),
    "infinitely steep at 0": (lambda x: x.sqrt(), (X,), (1,), None),
    "random": (lambda x: aten.rand_like(x), (X,), (1,), None),
    "in place": (lambda x: aten.erf_(x), (X,), (1,), None),
    "a sum over all": (lambda x: x.sum(), (X,), (1,), None),
}  # fmt: skip


@pytest.mark.parametrize(("does", "inputs", "axes", "expected"), LAWS.values(), ids=LAWS)
def test_the_law_of_an_operation_is_that_worked_out_by_hand(
    does: Callable[..., Any], inputs: tuple[Tensor, ...], axes: tuple[int | None, ...], expected: Law | None
) -> None:
    stream = torch.get_rng_state()
    assert law(operation(does, *inputs), axes) == expected
    assert torch.equal(torch.get_rng_state(), stream)


@pytest.mark.parametrize("size", [1, 2, 3, 9, 10, 17])
def test_any_two_channels_are_apart_in_one_of_the_partitions(size: int) -> None:
    parts = [part.tolist() for part in partitions(size)]
    for one in range(size):
        assert all(any(one in part and other not in part for part in parts) for other in range(size) if other != one)


ELEMENTWISE: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], bool, bool]] = {
    "softplus": (lambda x: F.softplus(x), (X,), True, True),
    "broadcast": (lambda x, y: torch.logaddexp(x, y), (X, PLACES), True, True),
    "rounded": (lambda x: x.round(), (X,), True, True),
    "a square root of what is never 0": (lambda x: x.sqrt(), (X,), False, True),
    "a square root of 0": (lambda x: x.sqrt(), (X,), True, False),
    "transposed": (lambda x: x.mT, (X,), True, False),
    "summed up": (lambda x: x.cumsum(-1), (X,), True, False),
    "a product": (lambda x, y: x @ y, (X, PLACES), True, False),
    "normalised": (lambda x: F.layer_norm(x, x.shape[1:]), (X,), True, False),
}  # fmt: skip


@pytest.mark.parametrize(("does", "inputs", "masked", "expected"), ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_an_elementwise_operation_mixes_nothing_and_is_finite_at_what_may_be_0(
    does: Callable[..., Any], inputs: tuple[Tensor, ...], masked: bool, expected: bool
) -> None:
    assert elementwise(operation(does, *inputs), [masked] * len(inputs)) == expected
