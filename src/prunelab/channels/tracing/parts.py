"""Rules of operations that take channels apart or put them together: which must go at once, and where they are then."""

import torch
from torch import Tensor, nn

from prunelab.channels.tracing.channel_ids import along, channels_of, concatenate, thin, varying
from prunelab.channels.tracing.trace import Call, ChannelIds, ChannelTrace, UnknownError, argument

aten = torch.ops.aten
PADS = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)


def cat(trace: ChannelTrace, node: Call) -> ChannelIds:
    joined = [part for part in node.args[0] if part.meta["val"].shape != (0,)]  # torch.cat skips torch.tensor([])
    parts = {part: trace.require(part) for part in joined if trace.ids(part) is not None}
    others = [part for part in joined if part not in parts]
    first, *more = parts.values()
    axis = argument(node, 1, "dim", 0) % first.dim()
    if all(varying(part) in ([], [axis]) for part in parts.values()):
        fixed = {part: _stays(trace, node, part) for part in others}
        return thin(concatenate([parts[part] if part in parts else fixed[part] for part in joined], axis))
    if any(axis in varying(part) for part in parts.values()):
        raise UnknownError("of channels that lie along different axes")
    for part in more:  # concatenated along another axis: all parts must lose the same
        trace.coupling.join(first.narrow(axis, 0, 1), part)
    widest = max(parts.values(), key=lambda part: len(varying(part))).narrow(axis, 0, 1)
    for part in others:
        trace.meet(part, widest.expand(part.meta["val"].shape))
    return widest.expand(node.meta["val"].shape)


def _stays(trace: ChannelTrace, node: Call, constant: Call) -> Tensor:
    """Ids for channels that no layer makes."""
    channel = trace.coupling.new(1)
    trace.coupling.keep(channel, f"{node.target.overloadpacket} with a constant, called in {trace.location(node)}")
    return channel.expand(constant.meta["val"].shape)


def channel_shuffle(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids, groups = trace.require(node.args[0]), node.args[1]
    channels = channels_of(ids, 1)
    if channels is None:
        raise UnknownError
    rows = channels.view(groups, -1)
    trace.coupling.join(rows[:1], rows)  # the groups stay equal and as many
    return along(rows.T.flatten(), 1, ids.shape)


def split(trace: ChannelTrace, node: Call) -> ChannelIds:
    """Equal parts, which keep the same positions, so that code that divides a size still works."""
    ids = trace.require(node.args[0])
    parts = node.target(ids, *node.args[1:], **node.kwargs)
    axis = argument(node, 2, "dim", 0) % ids.dim()
    if axis in varying(ids):
        if len({part.shape for part in parts}) > 1:
            if node.target is not aten.split.Tensor:
                raise UnknownError("of channels into unequal parts")
            _keep_positions(trace, node, ids, axis, slice(ids.shape[axis] - parts[-1].shape[axis]))
        else:
            for part in parts[1:]:
                trace.coupling.join(parts[0], part)
    return [thin(part) for part in parts]


def cut_out(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids = trace.require(node.args[0])
    part = node.target(*[ids, *node.args[1:]], **node.kwargs)
    axis = argument(node, 1, "dim", 0) % ids.dim()
    size, count = ids.shape[axis], part.shape[axis]
    if axis in varying(ids) and count != size:
        start, end = argument(node, 2, "start") or 0, argument(node, 3, "end")
        end, step = size if end is None else min(end, size), argument(node, 4, "step", 1)
        first = start + size if start < 0 else start
        if step == 1 and count and size % count == first % count == 0:  # an n-th part, as of code that divides a size
            blocks = ids.unfold(axis, count, count)  # (..., n, ..., count)
            trace.coupling.join(blocks.narrow(axis, 0, 1), blocks)
        elif step == 1:
            _keep_positions(trace, node, ids, axis, slice(start, None) if start < 0 else slice(start))
            _keep_positions(trace, node, ids, axis, slice(end, None) if end < 0 else slice(end if end < size else 0))
        elif 0 <= start < step and end == size:  # strides go whole, so that the others keep their phase
            for stride in ids.split(step, axis):
                trace.coupling.join(stride.narrow(axis, 0, 1), stride)
        else:
            raise UnknownError("of channels by index")
    return thin(part)


def _keep_positions(trace: ChannelTrace, node: Call, ids: Tensor, axis: int, positions: slice) -> None:
    """Those up to an index that the code counts from the same end stay: it would count others."""
    indices = torch.arange(ids.shape[axis])[positions]
    if not len(indices):
        return
    reason = f"{node.target.overloadpacket} of channels by index, called in {trace.location(node)}"
    trace.coupling.keep(thin(ids.index_select(axis, indices)), reason)


def pixel_shuffle(trace: ChannelTrace, node: Call) -> ChannelIds:
    """Channels become places: those of one result go together."""
    rows = _channels_of_images(trace, node).view(-1, node.args[1] ** 2)
    trace.coupling.join_rows(rows)
    return along(rows[:, 0], -3, node.meta["val"].shape)


def pixel_unshuffle(trace: ChannelTrace, node: Call) -> ChannelIds:
    """Places become channels."""
    return along(_channels_of_images(trace, node).repeat_interleave(node.args[1] ** 2), -3, node.meta["val"].shape)


def _channels_of_images(trace: ChannelTrace, node: Call) -> Tensor:
    channels = channels_of(trace.require(node.args[0]), -3)
    if channels is None:
        raise UnknownError("of channels that lie along another axis")
    return channels


def glu(trace: ChannelTrace, node: Call) -> ChannelIds:
    """One half times a function of the other."""
    value, gate = trace.require(node.args[0]).chunk(2, argument(node, 1, "dim", -1))
    trace.coupling.join(value, gate)
    return thin(value)


def getitem(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids = trace.ids(node.args[0])
    return ids[node.args[1]] if isinstance(ids, list) else None


def pad(trace: ChannelTrace, node: Call) -> ChannelIds:
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
