"""What does each operation of an exported net do to channels?"""

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
from prunelab.channels.tracing.trace import Call, ChannelTrace, Labels, Rule, UnknownError

aten = torch.ops.aten
PADS = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)


def _argument(node: Call, index: int, name: str, default: Any = None) -> Any:
    return node.args[index] if len(node.args) > index else node.kwargs.get(name, default)


def _divide(walk: ChannelTrace, node: Call) -> Labels:
    """By a channel that is masked it would be a division by 0, and so it is to a negative power."""
    if walk.labels(node.args[1]) is not None or (isinstance(node.args[1], int | float) and node.args[1] < 0):
        raise UnknownError(f"{node.target} by channels")
    return _positionwise(walk, node)


def _positionwise(walk: ChannelTrace, node: Call) -> Labels:
    shape = node.meta["val"].shape
    labelled = [walk.given(arg) for arg in node.all_input_nodes if walk.labels(arg) is not None]
    others = [arg for arg in node.all_input_nodes if walk.labels(arg) is None]
    operands = [*labelled, *(own for arg in others if (own := _elementwise_tensor(walk, arg, labelled)) is not None)]
    operands.sort(key=lambda labels: -len(varying(labels)))
    result = operands[0].expand(shape)
    for labels in operands[1:]:
        wide = labels.view([1] * (len(shape) - labels.dim()) + list(labels.shape))
        if any(wide.shape[axis] == 1 < shape[axis] for axis in varying(result)):
            reason = f"{node.target.overloadpacket} of one channel with many, called in {walk.where(node)}"
            walk.coupling.keep(thin(labels), reason)
        else:
            walk.coupling.join(result, wide)
    return result


def _elementwise_tensor(walk: ChannelTrace, arg: Call, met: list[Tensor]) -> Tensor | None:
    """A parameter or constant that meets channels: labels of its own, None where it has no axis of channels."""
    if not isinstance(arg.meta.get("val"), Tensor):  # a number that was computed
        return None
    own = arg.meta["val"].shape
    wide = [axis for axis, size in enumerate(own) if size > 1 and not _plain(met, axis - len(own), size)]
    if not wide:  # one number, or one for each input of the batch, or for each place in an image
        return None
    name = walk.tensor(arg)
    if name is None or len(wide) > 1:
        raise UnknownError("with a tensor that is no parameter, or has several axes")
    axis = wide[0]
    channels = walk.sites[name, axis] if (name, axis) in walk.sites else walk.coupling.new(own[axis])
    walk.site(arg, axis, channels)
    return along(channels, axis, own)


def _plain(met: list[Tensor], axis: int, size: int) -> bool:
    """An axis, counted from the last, that values have too, and that holds no channels there."""
    there = [labels for labels in met if labels.dim() >= -axis and labels.shape[axis] == size]
    return bool(there) and not any(labels.dim() + axis in varying(labels) for labels in there)


def _pool(walk: ChannelTrace, node: Call) -> Labels:
    labels, value = walk.given(node.args[0]), node.meta["val"]
    for axis in range(labels.dim() - POOLINGS[node.target.overloadpacket], labels.dim()):
        if axis in varying(labels):
            raise UnknownError("over channels")
        labels = labels.narrow(axis, 0, 1)
    return labels.expand(value.shape) if isinstance(value, Tensor) else [labels.expand(v.shape) for v in value]


def _reduce(walk: ChannelTrace, node: Call) -> Labels:
    labels, axes = walk.given(node.args[0]), _argument(node, 1, "dim")
    if not isinstance(axes, list | tuple) or not axes:
        raise UnknownError("over everything")
    for axis in sorted((a % labels.dim() for a in axes), reverse=True):
        if axis in varying(labels):
            raise UnknownError("over channels")
        labels = labels.narrow(axis, 0, 1) if _argument(node, 2, "keepdim") else labels.select(axis, 0)
    return labels


def _move(walk: ChannelTrace, node: Call) -> Labels:
    """The operation itself, on labels. Where an axis of channels was split in two, both ends stay rectangular."""
    args = map_aggregate(node.args, lambda a: walk.given(a) if isinstance(a, Node) else a)
    packet = node.target.overloadpacket
    if packet in (aten.select, aten.narrow, aten.unbind, aten.roll):  # by number, and numbers move
        taken = _argument(node, 2, "dims", []) if packet is aten.roll else [_argument(node, 1, "dim", 0)]
        if not taken or any(axis % args[0].dim() in varying(args[0]) for axis in taken):
            raise UnknownError("of channels by number")
    target = aten.reshape.default if packet is aten.view else node.target
    moved = target(*args, **node.kwargs)
    if not isinstance(moved, Tensor):
        return [thin(part) for part in moved]
    moved = thin(moved)
    for axis in varying(moved)[:-1]:  # only if all rows lose the same can what is left be put into a box again
        walk.coupling.join(moved.narrow(axis, 0, 1), moved)
        moved = moved.narrow(axis, 0, 1).expand_as(moved)
    return moved


def _cat(walk: ChannelTrace, node: Call) -> Labels:
    parts = [walk.given(part) for part in node.args[0]]
    axis = _argument(node, 1, "dim", 0) % parts[0].dim()
    if all(varying(part) in ([], [axis]) for part in parts):
        return thin(concatenate(parts, axis))
    if any(axis in varying(part) for part in parts):
        raise UnknownError("of channels that lie along different axes")
    for part in parts:  # end to end along another axis: they fit only if all lose the same
        walk.coupling.join(parts[0].narrow(axis, 0, 1), part)
    widest = max(parts, key=lambda part: len(varying(part)))
    return widest.narrow(axis, 0, 1).expand(node.meta["val"].shape)


def _shuffle(walk: ChannelTrace, node: Call) -> Labels:
    labels, groups = walk.given(node.args[0]), node.args[1]
    channels = channels_of(labels, 1)
    if channels is None:
        raise UnknownError
    rows = channels.view(groups, -1)
    walk.coupling.join(rows[:1], rows)  # equal groups, as many
    return along(rows.T.flatten(), 1, labels.shape)


def _split(walk: ChannelTrace, node: Call) -> Labels:
    """Equal parts, which keep the same positions, so that code that divides a size goes on dividing it."""
    labels = walk.given(node.args[0])
    parts = node.target(labels, *node.args[1:], **node.kwargs)
    axis = _argument(node, 2, "dim", 0) % labels.dim()
    if axis in varying(labels):
        if len({part.shape for part in parts}) > 1:
            raise UnknownError("of channels into unequal parts")
        for part in parts[1:]:
            walk.coupling.join(parts[0], part)
    return [thin(part) for part in parts]


def _slice(walk: ChannelTrace, node: Call) -> Labels:
    labels = walk.given(node.args[0])
    part = node.target(*[labels, *node.args[1:]], **node.kwargs)
    axis = _argument(node, 1, "dim", 0) % labels.dim()
    size, count = labels.shape[axis], part.shape[axis]
    if axis in varying(labels) and count != size:
        start = _argument(node, 2, "start", 0) or 0
        start += size if start < 0 else 0
        if _argument(node, 4, "step", 1) != 1 or not count or size % count or start % count:
            raise UnknownError("of channels that are not an n-th part of them")
        blocks = labels.unfold(axis, count, count)  # (..., n, ..., count)
        walk.coupling.join(blocks.narrow(axis, 0, 1), blocks)
    return thin(part)


def _getitem(walk: ChannelTrace, node: Call) -> Labels:
    labels = walk.labels(node.args[0])
    return labels[node.args[1]] if isinstance(labels, list) else None


def _pad(walk: ChannelTrace, node: Call) -> Labels:
    """Appended zeros are channels that no weight makes; they can go where their number stands in a module."""
    labels, amounts, shape = walk.given(node.args[0]), list(node.args[1]), node.meta["val"].shape
    for i, axis in enumerate(range(labels.dim() - 1, labels.dim() - 1 - len(amounts) // 2, -1)):
        before, after = amounts[2 * i : 2 * i + 2]
        if before == after == 0:
            continue
        if axis not in varying(labels):
            labels = labels.narrow(axis, 0, 1).expand([*labels.shape[:axis], shape[axis], *labels.shape[axis + 1 :]])
            continue
        channels = channels_of(labels, axis)
        if channels is None or min(before, after) < 0 or _argument(node, 2, "mode", "constant") not in ("constant", 0):
            raise UnknownError("of channels")
        path, module = walk.module(node)
        zeros = walk.pads[path][2] if path in walk.pads else walk.coupling.new(before + after)
        if isinstance(module, PADS) and list(module.padding) == amounts:
            walk.pads[path] = (tuple(amounts), i, zeros)
        else:
            walk.coupling.keep(zeros, f"F.pad with a fixed number, called in {walk.where(node)}")
        labels = along(
            torch.cat([zeros[:before], channels, zeros[before:]]),
            axis,
            torch.Size([*labels.shape[:axis], shape[axis], *labels.shape[axis + 1 :]]),
        )
    return labels


def _convolution(walk: ChannelTrace, node: Call) -> Labels:
    weight, bias = node.args[1], _argument(node, 2, "bias")
    groups = _argument(node, 6, "groups", 1)
    shape, out = weight.meta["val"].shape, node.meta["val"].shape
    inputs, name = _read(walk, node, -len(shape) + 1)
    if groups > 1 and not _owns(walk, node, _ConvNd):
        raise UnknownError("with groups, outside of a module that knows their number")
    made = walk.made(name, shape[0])
    if groups == 1:
        walk.site(weight, 1, inputs)
    else:  # a group of a grouped convolution lives or dies whole: the rest stays a grouped convolution
        walk.coupling.join_rows(torch.cat([inputs.view(groups, -1), made.view(groups, -1)], 1))
    return _maker(walk, node, name, "conv", made, bias, along(made, -len(shape) + 1, out))


def _linear(walk: ChannelTrace, node: Call) -> Labels:
    weight, bias = node.args[1], _argument(node, 2, "bias")
    inputs, name = _read(walk, node, -1)
    made = walk.made(name, weight.meta["val"].shape[0])
    walk.site(weight, 1, inputs)
    return _maker(walk, node, name, "linear", made, bias, along(made, -1, node.meta["val"].shape))


def _read(walk: ChannelTrace, node: Call, axis: int) -> tuple[Tensor, str]:
    """The channels that a layer reads along `axis`, and the name of its weight."""
    inputs, name = channels_of(walk.given(node.args[0]), axis), walk.tensor(node.args[1])
    if inputs is None:
        raise UnknownError("of channels that lie along another axis")
    if name is None:
        raise UnknownError("with weights that are computed on the way, as by weight_norm")
    return inputs, name


def _owns(walk: ChannelTrace, node: Call, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> bool:
    """Is an operation that of a module of this kind, on its own weight? Then surgery tells the module its new size."""
    module = walk.module(node)[1]
    name = walk.tensor(_argument(node, 2 if kind is nn.GroupNorm else 1, "weight"))
    return isinstance(module, kind) and name is not None and walk.net.get_parameter(name) is module.weight


def _maker(
    walk: ChannelTrace, node: Call, name: str, kind: Literal["conv", "linear"], made: Tensor, bias: Any, out: Tensor
) -> Tensor:
    walk.site(node.args[1], 0, made)
    walk.site(bias, 0, made)
    walk.makers.setdefault(name, kind)
    if not _goes_into_norms(node) and _owns(walk, node, (_ConvNd, nn.Linear)):
        walk.scaling_modules[walk.module(node)[0]] = made
    return out


def _goes_into_norms(node: Call) -> bool:
    return all(getattr(user.target, "overloadpacket", None) in NORMS for user in node.users)


def _norm(walk: ChannelTrace, node: Call) -> Labels:
    labels = walk.given(node.args[0])
    channels = channels_of(labels, 1)
    if channels is None:
        raise UnknownError("of channels that lie along another axis")
    packet = node.target.overloadpacket
    if packet is aten.group_norm:
        if not _owns(walk, node, nn.GroupNorm):
            raise UnknownError("without a scale, outside of a module that knows the number of groups")
        walk.coupling.join_rows(channels.view(node.args[1], -1))  # a group is normalised as a whole
    tensors = node.args[2:4] if packet is aten.group_norm else node.args[1:5]
    if packet is aten.instance_norm and all(tensor is None for tensor in tensors):
        raise UnknownError("without a scale, in which its size would show")
    for tensor in tensors:
        walk.site(tensor, 0, channels)
    source = getattr(node.args[0].target, "overloadpacket", None)
    makes = source in CONVOLUTIONS or source is aten.linear
    if makes and _goes_into_norms(node.args[0]) and isinstance(walk.module(node)[1], _NormBase | nn.GroupNorm):
        walk.scaling_modules[walk.module(node)[0]] = channels
    return labels


def _prelu(walk: ChannelTrace, node: Call) -> Labels:
    labels = walk.given(node.args[0])
    if node.args[1].meta["val"].numel() > 1:
        channels = channels_of(labels, 1)
        if channels is None:
            raise UnknownError("of channels that lie along another axis")
        walk.site(node.args[1], 0, channels)
    return labels


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
    aten._assert_tensor_metadata: lambda walk, node: None,  # comes with a change of precision, and does nothing
    operator.getitem: _getitem,
    aten.linear: _linear,
    aten.prelu: _prelu,
}
