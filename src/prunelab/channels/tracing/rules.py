"""Rules: what each operation of an exported network does to channels."""

import operator
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.fx.node import map_aggregate
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from prunelab.channels.tracing.channel_ids import along, channels_of, concatenate, thin, varying
from prunelab.channels.tracing.operations import CONVOLUTIONS, MOVEMENTS, NORMS, POOLINGS, POSITIONWISE, REDUCTIONS
from prunelab.channels.tracing.trace import Call, ChannelIds, ChannelTrace, Rule, UnknownError

aten = torch.ops.aten
PADS = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)


def _argument(node: Call, index: int, name: str, default: Any = None) -> Any:
    return node.args[index] if len(node.args) > index else node.kwargs.get(name, default)


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
    ids, axes = trace.require(node.args[0]), _argument(node, 1, "dim")
    if not isinstance(axes, list | tuple) or not axes:
        raise UnknownError("over everything")
    for axis in sorted((a % ids.dim() for a in axes), reverse=True):
        if axis in varying(ids):
            raise UnknownError("over channels")
        ids = ids.narrow(axis, 0, 1) if _argument(node, 2, "keepdim") else ids.select(axis, 0)
    return ids


def _move(trace: ChannelTrace, node: Call) -> ChannelIds:
    """Applies the operation to the ids. Where it splits an axis of channels in two, the rest must stay rectangular."""
    args = map_aggregate(node.args, lambda a: trace.require(a) if isinstance(a, Node) else a)
    packet = node.target.overloadpacket
    if packet in (aten.select, aten.narrow, aten.unbind, aten.roll):  # by index, and indices shift
        axes = _argument(node, 2, "dims", []) if packet is aten.roll else [_argument(node, 1, "dim", 0)]
        if not axes or any(axis % args[0].dim() in varying(args[0]) for axis in axes):
            raise UnknownError("of channels by index")
    target = aten.reshape.default if packet is aten.view else node.target
    moved = target(*args, **node.kwargs)
    if not isinstance(moved, Tensor):
        return [thin(part) for part in moved]
    moved = thin(moved)
    for axis in varying(moved)[:-1]:  # what remains is rectangular only if all rows lose the same
        trace.coupling.join(moved.narrow(axis, 0, 1), moved)
        moved = moved.narrow(axis, 0, 1).expand_as(moved)
    return moved


def _cat(trace: ChannelTrace, node: Call) -> ChannelIds:
    parts = [trace.require(part) for part in node.args[0]]
    axis = _argument(node, 1, "dim", 0) % parts[0].dim()
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
    axis = _argument(node, 2, "dim", 0) % ids.dim()
    if axis in varying(ids):
        if len({part.shape for part in parts}) > 1:
            raise UnknownError("of channels into unequal parts")
        for part in parts[1:]:
            trace.coupling.join(parts[0], part)
    return [thin(part) for part in parts]


def _slice(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids = trace.require(node.args[0])
    part = node.target(*[ids, *node.args[1:]], **node.kwargs)
    axis = _argument(node, 1, "dim", 0) % ids.dim()
    size, count = ids.shape[axis], part.shape[axis]
    if axis in varying(ids) and count != size:
        start = _argument(node, 2, "start", 0) or 0
        start += size if start < 0 else 0
        if _argument(node, 4, "step", 1) != 1 or not count or size % count or start % count:
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
        if channels is None or min(before, after) < 0 or _argument(node, 2, "mode", "constant") not in ("constant", 0):
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


def _convolution(trace: ChannelTrace, node: Call) -> ChannelIds:
    weight, bias = node.args[1], _argument(node, 2, "bias")
    groups = _argument(node, 6, "groups", 1)
    shape, out = weight.meta["val"].shape, node.meta["val"].shape
    inputs, name = _inputs(trace, node, -len(shape) + 1)
    if groups > 1 and not _owns(trace, node, _ConvNd):
        raise UnknownError("with groups, outside of a module that holds their number")
    produced = trace.outputs(name, shape[0])
    if groups == 1:
        trace.assign(weight, 1, inputs)
    else:  # groups are removed whole, so that the rest is a grouped convolution
        trace.coupling.join_rows(torch.cat([inputs.view(groups, -1), produced.view(groups, -1)], 1))
    return _produce(trace, node, name, "conv", produced, bias, along(produced, -len(shape) + 1, out))


def _linear(trace: ChannelTrace, node: Call) -> ChannelIds:
    weight, bias = node.args[1], _argument(node, 2, "bias")
    inputs, name = _inputs(trace, node, -1)
    produced = trace.outputs(name, weight.meta["val"].shape[0])
    trace.assign(weight, 1, inputs)
    return _produce(trace, node, name, "linear", produced, bias, along(produced, -1, node.meta["val"].shape))


def _inputs(trace: ChannelTrace, node: Call, axis: int) -> tuple[Tensor, str]:
    """The input channels of a layer, along `axis`, and the name of its weight."""
    inputs, name = channels_of(trace.require(node.args[0]), axis), trace.tensor_name(node.args[1])
    if inputs is None:
        raise UnknownError("of channels that lie along another axis")
    if name is None:
        raise UnknownError("with computed weights, as of weight_norm")
    return inputs, name


def _owns(trace: ChannelTrace, node: Call, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> bool:
    """Whether a module of this kind applies its own weight: then surgery updates the module's sizes."""
    module = trace.module(node)[1]
    name = trace.tensor_name(_argument(node, 2 if kind is nn.GroupNorm else 1, "weight"))
    return isinstance(module, kind) and name is not None and trace.net.get_parameter(name) is module.weight


def _produce(
    trace: ChannelTrace,
    node: Call,
    name: str,
    kind: Literal["conv", "linear"],
    produced: Tensor,
    bias: Any,
    out: Tensor,
) -> Tensor:
    trace.assign(node.args[1], 0, produced)
    trace.assign(bias, 0, produced)
    trace.makers.setdefault(name, kind)
    if not _goes_into_norms(node) and _owns(trace, node, (_ConvNd, nn.Linear)):
        trace.scaling_modules[trace.module(node)[0]] = produced
    return out


def _goes_into_norms(node: Call) -> bool:
    return all(getattr(user.target, "overloadpacket", None) in NORMS for user in node.users)


def _norm(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids = trace.require(node.args[0])
    channels = channels_of(ids, 1)
    if channels is None:
        raise UnknownError("of channels that lie along another axis")
    packet = node.target.overloadpacket
    if packet is aten.group_norm:
        if not _owns(trace, node, nn.GroupNorm):
            raise UnknownError("without a scale, outside of a module that holds the number of groups")
        trace.coupling.join_rows(channels.view(node.args[1], -1))  # each group is normalised as a whole
    tensors = node.args[2:4] if packet is aten.group_norm else node.args[1:5]
    if packet is aten.instance_norm and all(tensor is None for tensor in tensors):
        raise UnknownError("without a scale, whose size surgery could change")
    for tensor in tensors:
        trace.assign(tensor, 0, channels)
    source = getattr(node.args[0].target, "overloadpacket", None)
    makes = source in CONVOLUTIONS or source is aten.linear
    if makes and _goes_into_norms(node.args[0]) and isinstance(trace.module(node)[1], _NormBase | nn.GroupNorm):
        trace.scaling_modules[trace.module(node)[0]] = channels
    return ids


def _prelu(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids = trace.require(node.args[0])
    if node.args[1].meta["val"].numel() > 1:
        channels = channels_of(ids, 1)
        if channels is None:
            raise UnknownError("of channels that lie along another axis")
        trace.assign(node.args[1], 0, channels)
    return ids


RULES: Mapping[Any, Rule] = {
    **dict.fromkeys(POSITIONWISE, _positionwise),
    **dict.fromkeys((aten.div, aten.div_, aten.pow), _divide),
    **dict.fromkeys(POOLINGS, _pool),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(MOVEMENTS, _move),
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(NORMS, _norm),
    **dict.fromkeys((aten.cat, aten.concat), _cat),
    **dict.fromkeys((aten.split, aten.chunk, aten.split_with_sizes), _split),
    **dict.fromkeys((aten.pad, aten.constant_pad_nd), _pad),
    aten.slice: _slice,
    aten.channel_shuffle: _shuffle,
    aten._assert_tensor_metadata: lambda trace, node: None,  # part of a change of dtype; has no effect
    operator.getitem: _getitem,
    aten.linear: _linear,
    aten.prelu: _prelu,
}
