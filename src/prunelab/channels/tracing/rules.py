"""Rules: what each operation of an exported network does to channels; those of layers are in layers.py."""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.fx.node import map_aggregate

from prunelab.channels.tracing.attention import PRODUCTS, attention, free_axis, product, softmax
from prunelab.channels.tracing.channel_ids import along, channels_of, concatenate, thin, varying
from prunelab.channels.tracing.layers import convolution, linear, norm, prelu
from prunelab.channels.tracing.norms import layer_norm
from prunelab.channels.tracing.operations import CONVOLUTIONS, MOVEMENTS, NORMS, POOLINGS, POSITIONWISE, REDUCTIONS
from prunelab.channels.tracing.trace import Call, ChannelIds, ChannelTrace, Rule, UnknownError, argument

aten = torch.ops.aten
PADS = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)


def _divide(trace: ChannelTrace, node: Call) -> ChannelIds:
    """Division by a masked channel, or its negative power, would be a division by 0."""
    if trace.ids(node.args[1]) is not None or (isinstance(node.args[1], int | float) and node.args[1] < 0):
        raise UnknownError(f"{node.target} by channels")
    return _positionwise(trace, node)


def _positionwise(trace: ChannelTrace, node: Call) -> ChannelIds:
    shape = node.meta["val"].shape
    with_channels = [trace.require(arg) for arg in node.all_input_nodes if trace.ids(arg) is not None]
    others = [arg for arg in node.all_input_nodes if trace.ids(arg) is None]
    tensors = (_elementwise_tensor(trace, arg, with_channels) for arg in others)
    operands = [*with_channels, *(ids for ids in tensors if ids is not None)]
    operands.sort(key=lambda ids: -len(varying(ids)))
    result = operands[0].expand(shape)
    for ids in operands[1:]:
        wide = ids.view([1] * (len(shape) - ids.dim()) + list(ids.shape))
        if any(wide.shape[axis] == 1 < shape[axis] for axis in varying(result)):
            reason = f"{node.target.overloadpacket} of one channel with many, called in {trace.location(node)}"
            trace.coupling.keep(thin(ids), reason)
        else:
            trace.coupling.join(result, wide)
    return result


def _elementwise_tensor(trace: ChannelTrace, arg: Call, operands: list[Tensor]) -> Tensor | None:
    """The ids of a parameter or constant that is combined with channels; None where it has no axis of channels."""
    if not isinstance(arg.meta.get("val"), Tensor):  # a computed number
        return None
    shape = arg.meta["val"].shape
    wide = [
        axis for axis, size in enumerate(shape) if size > 1 and not _without_channels(operands, axis - len(shape), size)
    ]
    if not wide:  # a scalar, or one value per input of the batch or per position in an image
        return None
    name = trace.tensor_name(arg)
    if name is None or len(wide) > 1:
        raise UnknownError("with a tensor that is not a parameter, or has several axes")
    axis = wide[0]
    channels = trace.sites[name, axis] if (name, axis) in trace.sites else trace.coupling.new(shape[axis])
    trace.assign(arg, axis, channels)
    return along(channels, axis, shape)


def _without_channels(operands: list[Tensor], axis: int, size: int) -> bool:
    """Whether operands have this axis, counted from the last, and no channels along it."""
    matching = [ids for ids in operands if ids.dim() >= -axis and ids.shape[axis] == size]
    return bool(matching) and not any(ids.dim() + axis in varying(ids) for ids in matching)


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
    trace.note_heads(node, moved)
    return moved


def _cat(trace: ChannelTrace, node: Call) -> ChannelIds:
    parts = [trace.require(part) for part in node.args[0]]
    axis = argument(node, 1, "dim", 0) % parts[0].dim()
    if all(varying(part) in ([], [axis]) for part in parts):
        return thin(concatenate(parts, axis))
    if any(axis in varying(part) for part in parts):
        raise UnknownError("of channels that lie along different axes")
    for part in parts:  # concatenated along another axis: all parts must lose the same
        trace.coupling.join(parts[0].narrow(axis, 0, 1), part)
    widest = max(parts, key=lambda part: len(varying(part)))
    return widest.narrow(axis, 0, 1).expand(node.meta["val"].shape)


def _shuffle(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids, groups = trace.require(node.args[0]), node.args[1]
    channels = channels_of(ids, 1)
    if channels is None:
        raise UnknownError
    rows = channels.view(groups, -1)
    trace.coupling.join(rows[:1], rows)  # the groups stay equal and as many
    return along(rows.T.flatten(), 1, ids.shape)


def _split(trace: ChannelTrace, node: Call) -> ChannelIds:
    """Equal parts, which keep the same positions, so that code that divides a size still works."""
    ids = trace.require(node.args[0])
    parts = node.target(ids, *node.args[1:], **node.kwargs)
    axis = argument(node, 2, "dim", 0) % ids.dim()
    if axis in varying(ids):
        if len({part.shape for part in parts}) > 1:
            raise UnknownError("of channels into unequal parts")
        for part in parts[1:]:
            trace.coupling.join(parts[0], part)
    return [thin(part) for part in parts]


def _slice(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids = trace.require(node.args[0])
    part = node.target(*[ids, *node.args[1:]], **node.kwargs)
    axis = argument(node, 1, "dim", 0) % ids.dim()
    size, count = ids.shape[axis], part.shape[axis]
    if axis in varying(ids) and count != size:
        start = argument(node, 2, "start", 0) or 0
        start += size if start < 0 else 0
        if argument(node, 4, "step", 1) != 1 or not count or size % count or start % count:
            raise UnknownError("of channels that are not an n-th part of all")
        blocks = ids.unfold(axis, count, count)  # (..., n, ..., count)
        trace.coupling.join(blocks.narrow(axis, 0, 1), blocks)
    return thin(part)


def _getitem(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids = trace.ids(node.args[0])
    return ids[node.args[1]] if isinstance(ids, list) else None


def _pad(trace: ChannelTrace, node: Call) -> ChannelIds:
    """Appended zeros are channels that no weight produces; they can be removed where a module holds their number."""
    ids, amounts, shape = trace.require(node.args[0]), list(node.args[1]), node.meta["val"].shape
    for i, axis in enumerate(range(ids.dim() - 1, ids.dim() - 1 - len(amounts) // 2, -1)):
        before, after = amounts[2 * i : 2 * i + 2]
        if before == after == 0:
            continue
        if axis not in varying(ids):
            ids = ids.narrow(axis, 0, 1).expand([*ids.shape[:axis], shape[axis], *ids.shape[axis + 1 :]])
            continue
        channels = channels_of(ids, axis)
        if channels is None or min(before, after) < 0 or argument(node, 2, "mode", "constant") not in ("constant", 0):
            raise UnknownError("of channels")
        path, module = trace.module(node)
        zeros = trace.pads[path][2] if path in trace.pads else trace.coupling.new(before + after)
        if isinstance(module, PADS) and list(module.padding) == amounts:
            trace.pads[path] = (tuple(amounts), i, zeros)
        else:
            trace.coupling.keep(zeros, f"F.pad by a constant, called in {trace.location(node)}")
        ids = along(
            torch.cat([zeros[:before], channels, zeros[before:]]),
            axis,
            torch.Size([*ids.shape[:axis], shape[axis], *ids.shape[axis + 1 :]]),
        )
    return ids


RULES: Mapping[Any, Rule] = {
    **dict.fromkeys(POSITIONWISE, _positionwise),
    **dict.fromkeys((aten.div, aten.div_, aten.pow), _divide),
    **dict.fromkeys(POOLINGS, _pool),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(MOVEMENTS, _move),
    **dict.fromkeys(CONVOLUTIONS, convolution),
    **dict.fromkeys(NORMS, norm),
    **dict.fromkeys((aten.cat, aten.concat), _cat),
    **dict.fromkeys((aten.split, aten.chunk, aten.split_with_sizes), _split),
    **dict.fromkeys((aten.pad, aten.constant_pad_nd), _pad),
    aten.slice: _slice,
    aten.channel_shuffle: _shuffle,
    aten._assert_tensor_metadata: lambda trace, node: None,  # part of a change of dtype; has no effect
    operator.getitem: _getitem,
    **dict.fromkeys(PRODUCTS, product),
    **dict.fromkeys((aten.layer_norm, aten.rms_norm), layer_norm),
    aten.scaled_dot_product_attention: attention,
    aten.softmax: softmax,
    aten.linear: linear,
    aten.prelu: prelu,
}
