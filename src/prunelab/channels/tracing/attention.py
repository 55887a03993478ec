"""Rules of attention: heads are removed whole, from queries, keys, values and what reads them."""

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_aggregate

from prunelab.channels.tracing.channel_ids import along, concatenate, narrowed, thin, varying
from prunelab.channels.tracing.operations import MOVEMENTS, POSITIONWISE, packet_of
from prunelab.channels.tracing.trace import Call, ChannelIds, ChannelTrace, UnknownError, argument

aten = torch.ops.aten
PRODUCTS = {aten.matmul, aten.bmm}
SPLITS = {aten.split, aten.chunk, aten.split_with_sizes}


def attention(trace: ChannelTrace, node: Call) -> ChannelIds:
    """aten.scaled_dot_product_attention of (..., heads, positions, channels of a head)."""
    query, key, value = (_by_head(trace.require(arg)) for arg in node.args[:3])
    if argument(node, 7, "enable_gqa", False):
        raise UnknownError("of fewer keys than queries")
    shape = node.meta["val"].shape
    _meet(trace, query, key, value)
    if isinstance(mask := argument(node, 3, "attn_mask"), Node):
        if isinstance(ids := trace.ids(mask), Tensor):
            _meet(trace, value, _by_head(ids))
        else:
            trace.meet(mask, narrowed(value.expand(shape), mask.meta["val"].shape))
    return value.expand(shape)


def product(trace: ChannelTrace, node: Call) -> ChannelIds:
    """A matrix product for each head, or what a probe finds of one without heads."""
    operands = [trace.ids(arg) for arg in node.args[:2]]
    if not all(isinstance(ids, Tensor) and max(varying(ids), default=0) < ids.dim() - 2 for ids in operands):
        return trace.rules[None](trace, node)
    first, second = (_by_head(trace.require(arg)) for arg in node.args[:2])
    _meet(trace, first, second)
    widest = max(first, second, key=lambda ids: len(varying(ids)))
    return widest.expand(node.meta["val"].shape)


def softmax(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids = trace.require(node.args[0])
    if argument(node, 1, "dim") % ids.dim() in varying(ids):
        raise UnknownError("over channels")
    return ids


def _by_head(ids: Tensor) -> Tensor:
    """(..., 1, 1). Of the channels within a head none can go: their number is in the scale of the attention."""
    if any(axis >= ids.dim() - 2 for axis in varying(ids)):
        raise UnknownError("of channels that are not whole heads")
    return ids[..., :1, :1]


def _meet(trace: ChannelTrace, *operands: Tensor) -> None:
    for other in operands[1:]:
        trace.coupling.join(operands[0], other)


def free_axis(node: Node, ids: Tensor) -> int:
    """Of the axes into which `node` splits channels, the one along which they stay free: the rest is rectangular.

    The last, unless attention later takes another for its heads.
    """
    *others, last = varying(ids)
    for axis in others:
        if _of_heads(node, along(torch.arange(ids.shape[axis]), axis, ids.shape)):
            return axis
    return last


def _of_heads(node: Node, marker: Tensor) -> bool:
    """Whether the value of `node` reaches attention with the marked axis in front of positions and channels."""
    markers: dict[Node, ChannelIds] = {node: marker}
    later, reached = list(node.graph.nodes), False
    for user in later[later.index(node) + 1 :]:
        if user.op != "call_function" or not any(arg in markers for arg in user.all_input_nodes):
            continue
        packet = packet_of(user)
        if packet in PRODUCTS or packet is aten.scaled_dot_product_attention:
            marked = [ids for arg in user.all_input_nodes if isinstance(ids := markers.get(arg), Tensor)]
            axes = [axis - ids.dim() for ids in marked for axis in varying(ids)]
            if axes and max(axes) < -2:
                reached = True
            elif axes:
                return False
        elif (carried := _carried(user, packet, markers)) is not None:
            markers[user] = carried
    return reached


def _carried(node: Call, packet: object, markers: dict[Node, ChannelIds]) -> ChannelIds:
    """The markers of a result of an operation that moves values or takes each position alone; else None."""
    first, shape = markers.get(node.args[0]) if isinstance(node.args[0], Node) else None, node.meta.get("val")
    if getattr(packet, "__name__", "") == "getitem":
        return first[node.args[1]] if isinstance(first, list) else None
    if packet is aten.cat and all(arg in markers for arg in node.args[0]):
        parts: Any = [markers[arg] for arg in node.args[0]]
        return thin(concatenate(parts, argument(node, 1, "dim", 0)))
    if packet in POSITIONWISE and isinstance(shape, Tensor):
        marked = [ids for arg in node.all_input_nodes if isinstance(ids := markers.get(arg), Tensor)]
        return max(marked, key=lambda ids: len(varying(ids))).expand(shape.shape)
    if packet in (aten.layer_norm, aten.rms_norm, aten.div, aten.softmax, aten.reshape_as):
        return first.reshape(shape.shape) if isinstance(first, Tensor) else None
    if isinstance(first, Tensor) and (packet in MOVEMENTS | SPLITS or packet is aten.slice):
        args = map_aggregate(node.args, lambda arg: markers.get(arg) if isinstance(arg, Node) else arg)
        moved = (aten.reshape.default if packet is aten.view else node.target)(*args, **node.kwargs)
        return thin(moved) if isinstance(moved, Tensor) else [thin(part) for part in moved]
    return None
