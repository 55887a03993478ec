"""Rules of norms over channels, whose statistics must leave out those that are masked."""

import torch
from torch.fx import Node

from prunelab.channels.tracing.channel_ids import channels_of, varying
from prunelab.channels.tracing.trace import Call, ChannelIds, ChannelTrace, UnknownError, argument
from prunelab.core.network.living_norms import NORMS

aten = torch.ops.aten


def layer_norm(trace: ChannelTrace, node: Call) -> ChannelIds:
    ids, over = trace.require(node.args[0]), len(node.args[1])
    if all(axis < ids.dim() - over for axis in varying(ids)):
        return ids  # over positions, or within heads
    channels, weight, bias = channels_of(ids, -1), argument(node, 2, "weight"), argument(node, 3, "bias")
    if over > 1 or channels is None:
        raise UnknownError("over more than channels")
    path, module = trace.module(node)
    name, axis = trace.tensor_name(weight), _axis_in_module(trace, node, path)
    if not isinstance(module, NORMS) or name is None or module.weight is not trace.net.get_parameter(name):
        raise UnknownError("over channels, without a module that holds its scale")
    if axis is None or trace.norms.setdefault(name, axis) != axis:
        raise UnknownError("over channels, in a module that does more than that")
    trace.assign(weight, 0, channels)
    if node.target.overloadpacket is aten.layer_norm:
        trace.assign(bias, 0, channels)
    return ids


def counts_the_living(trace: ChannelTrace, norm: Call) -> bool:
    """Whether the module of a group norm can leave masked channels out, which is noted: one group, and nothing else."""
    name = trace.tensor_name(argument(norm, 2, "weight"))
    if norm.args[1] > 1 or name is None or _axis_in_module(trace, norm, trace.module(norm)[0]) != -1:
        return False
    trace.norms[name] = 1
    return True


def _axis_in_module(trace: ChannelTrace, norm: Call, path: str) -> int | None:
    """Where channels are in the input of the module around a norm; None where it does more than move them and back."""

    def inside(node: Node) -> bool:
        return node.op == "call_function" and trace.module(node)[0] == path

    before, after = norm.args[0], list(norm.users)
    if not inside(before):
        return None if any(map(inside, after)) else -1
    back = [user.args[1] for user in after if inside(user) and user.target is aten.permute.default]
    if before.target is not aten.permute.default or inside(before.args[0]) or len(back) != len(after):
        return None
    forth = list(before.args[1])
    return forth[-1] if all([forth[i] for i in b] == list(range(len(forth))) for b in back) else None
