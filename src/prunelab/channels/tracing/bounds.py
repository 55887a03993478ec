"""The least that an operation can return, by which divisions by 0 are ruled out."""

import math
from typing import Any, cast

from torch.fx import Node

from prunelab.channels.tracing.operations import MOVEMENTS, aten, packet_of
from prunelab.channels.tracing.trace import argument

NEVER_NEGATIVE = {
    aten.abs, aten.relu, aten.square, aten.sigmoid, aten.softplus, aten.exp, aten.norm, aten.linalg_vector_norm,
    aten.std, aten.var,
}  # fmt: skip
NOT_LESS = {aten.mean, aten.amax, aten.amin, aten.slice, aten.clone, aten.contiguous}  # than the least of the input


def least(value: Any) -> float:
    """A lower bound of all elements, -inf where none is known."""
    if isinstance(value, int | float):
        return value
    if not isinstance(value, Node):
        return -math.inf
    packet, args = packet_of(value), cast(Any, value.args)
    if packet in NEVER_NEGATIVE or (packet is aten.pow and args[1] in (2, 4)):
        return 0.0
    if packet in MOVEMENTS | NOT_LESS:
        return least(args[0])
    if packet is aten.add and not value.kwargs:
        return least(args[0]) + least(args[1])
    if packet in (aten.clamp, aten.clamp_min):
        low = argument(value, 1, "min")
        return least(args[0]) if low is None else max(least(args[0]), least(low))
    if packet is aten.sqrt:
        return math.sqrt(max(least(args[0]), 0.0))
    return -math.inf
