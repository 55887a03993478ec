"""Rules of layers that have weights: which channels they make, and which they read."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from prunelab.channels.tracing.channel_ids import along, channels_of, varying
from prunelab.channels.tracing.norms import counts_the_living
from prunelab.channels.tracing.operations import CONVOLUTIONS, NORMS, TRANSPOSED, packet_of
from prunelab.channels.tracing.trace import Call, ChannelIds, ChannelTrace, UnknownError, argument
from prunelab.core.network.prunable import PRUNABLE

aten = torch.ops.aten
NARROW = 8  # channels: half of fewer, in every group, would be a coarse choice


def convolution(trace: ChannelTrace, node: Call) -> ChannelIds:
    weight, bias = node.args[1], argument(node, 2, "bias")
    groups = argument(node, 6, "groups", 1)
    shape, out = weight.meta["val"].shape, node.meta["val"].shape
    if _along_another_axis(trace, node, -len(shape) + 1):
        return trace.rules[None](trace, node)
    inputs, name = _inputs(trace, node, -len(shape) + 1)
    if groups > 1 and not _owns(trace, node, _ConvNd):
        raise UnknownError("with groups, outside of a module that holds their number")
    produced = trace.outputs(name, shape[0])
    if groups == 1:
        trace.assign(weight, 1, inputs)
    else:
        inputs, outputs = inputs.view(groups, -1), produced.view(groups, -1)
        if go_whole(groups, *inputs.shape[1:]):
            trace.coupling.join_rows(torch.cat([inputs, outputs], 1))
        else:  # the same positions of every group go
            trace.coupling.join(inputs[:1], inputs)
            trace.coupling.join(outputs[:1], outputs)
            trace.assign(weight, 1, inputs[0])
    return _produce(trace, node, name, "conv", produced, bias, along(produced, -len(shape) + 1, out))


def go_whole(groups: int, width: int) -> bool:
    """Whether groups of `width` inputs go whole: narrow ones leave no choice within."""
    return width <= groups and width < NARROW


def transposed_convolution(trace: ChannelTrace, node: Call) -> ChannelIds:
    """Its weight is (in, out / groups, ...); groups go whole."""
    weight, bias = node.args[1], argument(node, 2, "bias")
    groups, out = argument(node, 6, "groups", 1), node.meta["val"].shape
    axis = -weight.meta["val"].dim() + 1
    inputs, name = _inputs(trace, node, axis, 0 if groups > 1 else 1)
    if groups > 1:
        if not _owns(trace, node, _ConvNd):
            raise UnknownError("with groups, outside of a module that holds their number")
        produced = inputs.view(groups, -1)[:, :1].expand(-1, out[axis] // groups).flatten()
        trace.coupling.join_rows(inputs.view(groups, -1))
        produced = _produce(trace, node, name, "conv", inputs, None, produced)
    else:
        produced = trace.outputs(name, out[axis], 1)
        trace.assign(weight, 0, inputs)
        trace.axes[name] = 1
        _produce(trace, node, name, "conv", produced, None, produced)
    trace.assign(bias, 0, produced)
    return along(produced, axis, out)


def linear(trace: ChannelTrace, node: Call) -> ChannelIds:
    weight, bias = node.args[1], argument(node, 2, "bias")
    if _along_another_axis(trace, node, -1):
        return trace.rules[None](trace, node)
    if weight.meta["val"].dim() < 2:
        raise UnknownError("with a weight of one axis")
    inputs, name = _inputs(trace, node, -1)
    produced = trace.outputs(name, weight.meta["val"].shape[0])
    trace.assign(weight, 1, inputs)
    return _produce(trace, node, name, "linear", produced, bias, along(produced, -1, node.meta["val"].shape))


def embedding(trace: ChannelTrace, node: Call) -> ChannelIds:
    """Rows of a weight by the numbers of tokens."""
    weight = node.args[0]
    name = trace.tensor_name(weight)
    if name is None or trace.ids(weight) is not None:
        raise UnknownError("with computed weights")
    channels = trace.outputs(name, weight.meta["val"].shape[1], 1)
    trace.assign(weight, 1, channels)
    return along(channels, -1, node.meta["val"].shape)


def _along_another_axis(trace: ChannelTrace, node: Call, axis: int) -> bool:
    """Whether a layer works along `axis` on each of the channels, which lie along another, as in MLP-Mixer."""
    ids = trace.require(node.args[0])
    return bool(varying(ids)) and axis % ids.dim() not in varying(ids)


def _inputs(trace: ChannelTrace, node: Call, axis: int, made: int = 0) -> tuple[Tensor, str]:
    """The input channels of a layer, along `axis`, and the name of its weight, which makes channels along `made`."""
    inputs, name = channels_of(trace.require(node.args[0]), axis), trace.tensor_name(node.args[1])
    if inputs is None:
        raise UnknownError("of channels that lie along another axis")
    if name is None:
        raise UnknownError("with computed weights, as of weight_norm")
    if name in trace.makers and trace.axes.get(name, 0) != made:
        raise UnknownError("with a weight that is also used transposed")
    return inputs, name


def _owns(trace: ChannelTrace, node: Call, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> bool:
    """Whether a module of this kind applies its own weight: then surgery updates the module's sizes."""
    module = trace.module(node)[1]
    name = trace.tensor_name(argument(node, 2 if kind is nn.GroupNorm else 1, "weight"))
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
    trace.assign(node.args[1], trace.axes.get(name, 0), produced)
    trace.assign(bias, 0, produced)
    trace.makers.setdefault(name, kind)
    if not _goes_into_norms(node) and _owns(trace, node, PRUNABLE):
        trace.scaling_modules[trace.module(node)[0]] = produced
    return out


def _goes_into_norms(node: Call) -> bool:
    return all(packet_of(user) in NORMS for user in node.users)


def norm(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids = trace.require(node.args[0])
    channels = channels_of(ids, 1)
    if channels is None:
        raise UnknownError("of channels that lie along another axis")
    packet = node.target.overloadpacket
    if packet is aten.group_norm:
        if not _owns(trace, node, nn.GroupNorm):
            raise UnknownError("without a scale, outside of a module that holds the number of groups")
        if not counts_the_living(trace, node):
            trace.coupling.join_rows(channels.view(node.args[1], -1))  # each group is normalised as a whole
    tensors = node.args[2:4] if packet is aten.group_norm else node.args[1:5]
    without = packet is aten.instance_norm and all(tensor is None for tensor in tensors)
    if without and isinstance(trace.module(node)[1], _NormBase):  # it holds the number of channels
        raise UnknownError("without a scale, whose size surgery could change")
    for tensor in tensors:
        trace.assign(tensor, 0, channels)
    source = packet_of(node.args[0])
    makes = source in CONVOLUTIONS | TRANSPOSED or source is aten.linear
    if makes and _goes_into_norms(node.args[0]) and isinstance(trace.module(node)[1], _NormBase | nn.GroupNorm):
        trace.scaling_modules[trace.module(node)[0]] = channels
    return ids


def prelu(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids = trace.require(node.args[0])
    if node.args[1].meta["val"].numel() > 1:
        channels = channels_of(ids, 1)
        if channels is None:
            raise UnknownError("of channels that lie along another axis")
        trace.assign(node.args[1], 0, channels)
    return ids
