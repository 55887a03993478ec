"""Rules: what each operation of an exported network does to channels; those of layers are in layers.py."""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_aggregate
from torch.utils._pytree import tree_leaves

from prunelab.channels.tracing.attention import PRODUCTS, attention, free_axis, product, softmax
from prunelab.channels.tracing.bounds import least
from prunelab.channels.tracing.channel_ids import along, channels_of, narrowed, thin, varying
from prunelab.channels.tracing.elements import inputs_of
from prunelab.channels.tracing.layers import convolution, embedding, linear, norm, prelu, transposed_convolution
from prunelab.channels.tracing.norms import layer_norm
from prunelab.channels.tracing.operations import (
    CONVOLUTIONS,
    MOVEMENTS,
    NORMS,
    POOLINGS,
    POSITIONWISE,
    REDUCTIONS,
    TRANSPOSED,
)
from prunelab.channels.tracing.parts import (
    cat,
    channel_shuffle,
    cut_out,
    getitem,
    glu,
    pad,
    pixel_shuffle,
    pixel_unshuffle,
    split,
)
from prunelab.channels.tracing.trace import Call, ChannelIds, ChannelTrace, Rule, UnknownError, argument
from prunelab.core.network.torch_export import error_summary

aten = torch.ops.aten
RESHAPES = {aten.view, aten.reshape, aten.unflatten}


def _root(trace: ChannelTrace, node: Call) -> ChannelIds:
    """The slope of a root is infinite at 0, and a masked channel may be 0."""
    if least(node.args[0]) <= 0:
        raise UnknownError("of channels that may be 0")
    return _positionwise(trace, node)


def _divide(trace: ChannelTrace, node: Call) -> ChannelIds:
    """Division by a masked channel, or its negative power, may be a division by 0."""
    packet, by = node.target.overloadpacket, node.args[1]
    if packet is aten.pow:
        if isinstance(by, int | float) and 0 < by < 1:
            return _root(trace, node)
        impossible = trace.ids(by) is not None or (isinstance(by, int | float) and by < 0)
    else:
        impossible = trace.ids(by) is not None and least(by) <= 0
    if impossible:
        raise UnknownError("by channels")
    result = _positionwise(trace, node)
    if trace.sited & trace.parameters:  # masked like the channels, with zeros
        raise UnknownError("by a parameter with channels")
    return result


def _positionwise(trace: ChannelTrace, node: Call) -> ChannelIds:
    shape = node.meta["val"].shape
    inputs = [arg for arg in inputs_of(node) if isinstance(arg.meta.get("val"), Tensor)]
    operands = {arg: trace.require(arg) for arg in inputs if trace.ids(arg) is not None}
    others = [arg for arg in inputs if arg not in operands]
    own = {arg: ids for arg in others if (ids := _own_channels(trace, arg, list(operands.values()))) is not None}
    ordered = sorted([*operands.values(), *own.values()], key=lambda ids: -len(varying(ids)))
    result = ordered[0].expand(shape)
    for ids in ordered[1:]:
        wide = ids.view([1] * (len(shape) - ids.dim()) + list(ids.shape))
        if any(wide.shape[axis] == 1 < shape[axis] for axis in varying(result)):
            reason = f"{node.target.overloadpacket} of one channel with many, called in {trace.location(node)}"
            trace.coupling.keep(thin(ids), reason)
        else:
            trace.coupling.join(result, wide)
    for arg in others:
        if arg not in own:
            trace.meet(arg, narrowed(result, arg.meta["val"].shape))
    return result


def _own_channels(trace: ChannelTrace, arg: Call, operands: list[Tensor]) -> Tensor | None:
    """New channels of a parameter with an axis along which all else is broadcast."""
    shape, name = arg.meta["val"].shape, trace.tensor_name(arg)
    new = [
        axis
        for axis, size in enumerate(shape, -len(shape))
        if size > 1 and all(ids.dim() < -axis or ids.shape[axis] == 1 for ids in operands)
    ]
    if name is None or len(new) != 1:
        return None
    axis = new[0] + len(shape)
    channels = trace.sites[name, axis] if (name, axis) in trace.sites else trace.coupling.new(shape[axis])
    trace.assign(arg, axis, channels)
    return along(channels, axis, shape)


def _pool(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids, value = trace.require(node.args[0]), node.meta["val"]
    for axis in range(ids.dim() - POOLINGS[node.target.overloadpacket], ids.dim()):
        if axis in varying(ids):
            raise UnknownError("over channels")
        ids = ids.narrow(axis, 0, 1)
    return ids.expand(value.shape) if isinstance(value, Tensor) else [ids.expand(v.shape) for v in value]


def _reduce(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids, axes = trace.require(node.args[0]), argument(node, 1, "dim")
    if not isinstance(axes, list | tuple) or not axes:
        raise UnknownError("over everything")
    for axis in sorted((a % ids.dim() for a in axes), reverse=True):
        if axis in varying(ids):
            raise UnknownError("over channels")
        ids = ids.narrow(axis, 0, 1) if argument(node, 2, "keepdim") else ids.select(axis, 0)
    return ids


def _move(trace: ChannelTrace, node: Call) -> ChannelIds:
    """Applies the operation to the ids. Where it splits an axis of channels in two, the rest must stay rectangular."""
    args = map_aggregate(node.args, lambda a: trace.require(a) if isinstance(a, Node) else a)
    packet = node.target.overloadpacket
    if node.target is aten.view.dtype:
        raise UnknownError("as another type")
    if packet in (aten.select, aten.narrow, aten.unbind, aten.roll):  # by index, and indices shift
        axes = argument(node, 2, "dims", []) if packet is aten.roll else [argument(node, 1, "dim", 0)]
        if not axes or any(axis % args[0].dim() in varying(args[0]) for axis in axes):
            raise UnknownError("of channels by index")
    target = aten.reshape.default if packet is aten.view else node.target
    moved = target(*args, **node.kwargs)
    if not isinstance(moved, Tensor):
        return [thin(part) for part in moved]
    moved = thin(moved)
    axes = varying(moved)
    free = free_axis(node, moved) if len(axes) > 1 else None
    for axis in axes:
        if free not in (None, axis):  # what remains is rectangular only if all rows lose the same
            trace.coupling.join(moved.narrow(axis, 0, 1), moved)
            moved = moved.narrow(axis, 0, 1).expand_as(moved)
    if free is not None and free != axes[-1]:
        trace.heads.append(moved.unique())
    if packet in RESHAPES:
        trace.note_size(node, moved)
    return moved


def _any(trace: ChannelTrace, node: Call) -> ChannelIds:
    """An operation without a rule: what a probe finds out."""
    ids = {arg: trace.require(arg) for arg in node.all_input_nodes if trace.ids(arg) is not None}
    if any(len(varying(one)) > 1 for one in ids.values()):
        raise UnknownError("of channels along several axes")
    axes = {arg: varying(one)[0] for arg, one in ids.items() if varying(one)}
    if not axes or len({ids[arg].shape[axis] for arg, axis in axes.items()}) > 1:
        raise UnknownError
    found = trace.law(node, [axes.get(arg) for arg in node.all_input_nodes])
    if found is None:
        raise UnknownError
    channels = next(channels_of(ids[arg], axis) for arg, axis in axes.items())
    assert channels is not None
    for arg, axis in zip(node.all_input_nodes, found.inputs, strict=True):
        if axis is not None and arg in ids:
            trace.coupling.join(along(channels, axis, ids[arg].shape), ids[arg])
        elif axis is not None:
            trace.assign(arg, axis, channels)
        elif arg in ids:
            reason = f"{node.target.overloadpacket} of one channel with many, called in {trace.location(node)}"
            trace.coupling.keep(thin(ids[arg]), reason)
    values = tree_leaves(node.meta["val"])
    results = [along(channels, axis, value.shape) for axis, value in zip(found.outputs, values, strict=True)]
    return results[0] if isinstance(node.meta["val"], Tensor) else results


def _guarded(rule: Rule) -> Rule:
    """A rule that fails where a call is none that it foresees: the channels stay, and the rest is pruned."""

    def apply(trace: ChannelTrace, node: Node) -> ChannelIds:
        try:
            return rule(trace, node)
        except (UnknownError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise UnknownError(f"in a way that its rule does not foresee ({error_summary(error)})") from error

    return apply


_RULES: Mapping[Any, Rule] = {  # None: of all others
    **dict.fromkeys(POSITIONWISE, _positionwise),
    **dict.fromkeys((aten.div, aten.div_, aten.pow), _divide),
    aten.sqrt: _root,
    **dict.fromkeys(POOLINGS, _pool),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(MOVEMENTS, _move),
    **dict.fromkeys(CONVOLUTIONS, convolution),
    **dict.fromkeys(TRANSPOSED, transposed_convolution),
    **dict.fromkeys(NORMS, norm),
    **dict.fromkeys((aten.cat, aten.concat), cat),
    **dict.fromkeys((aten.split, aten.chunk, aten.split_with_sizes), split),
    **dict.fromkeys((aten.pad, aten.constant_pad_nd), pad),
    aten.slice: cut_out,
    aten.pixel_shuffle: pixel_shuffle,
    aten.pixel_unshuffle: pixel_unshuffle,
    aten.glu: glu,
    aten.channel_shuffle: channel_shuffle,
    aten._assert_tensor_metadata: lambda trace, node: None,  # part of a change of dtype; has no effect
    operator.getitem: getitem,
    **dict.fromkeys(PRODUCTS, product),
    aten.embedding: embedding,
    **dict.fromkeys((aten.layer_norm, aten.rms_norm), layer_norm),
    aten.scaled_dot_product_attention: attention,
    aten.softmax: softmax,
    aten.linear: linear,
    aten.prelu: prelu,
    None: _any,
}
RULES: Mapping[Any, Rule] = {operation: _guarded(rule) for operation, rule in _RULES.items()}
