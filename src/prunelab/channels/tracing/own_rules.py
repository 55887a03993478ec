"""Rules of users, for operations that the channel graph does not know."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket
from torch.fx import Node

from prunelab.channels.tracing.channel_ids import thin
from prunelab.channels.tracing.trace import ChannelIds, ChannelTrace, Rule

_RULES: dict[OpOverloadPacket, Rule] = {}  # of this process, as torch's own operations are


def register_rule(operation: OpOverloadPacket | OpOverload) -> Callable[[Rule], Rule]:
    """Decorates the rule of an operation of torch.ops, of all its overloads; it goes before one of prunelab's.

    A rule takes a ChannelTrace and the torch.fx node of the call, and returns the channel ids of its result: a tensor
    in the shape of the result, a list of them, or None for a value without channels. It raises UnknownError where
    channels must stay. Raises TypeError for anything but an operation of torch.ops.
    """
    packet = operation.overloadpacket if isinstance(operation, OpOverload) else operation
    if not isinstance(packet, OpOverloadPacket):
        raise TypeError(f"register_rule({operation!r}): expected an operation of torch.ops, as torch.ops.aten.flip")

    def register(rule: Rule) -> Rule:
        _RULES[packet] = rule
        return rule

    return register


def with_own_rules(rules: Mapping[Any, Rule]) -> Mapping[Any, Rule]:
    """`rules` and those of users. Raises ValueError, when one is applied, for ids in another shape than the value's."""
    return {**rules, **{packet: _checked(packet, rule) for packet, rule in _RULES.items()}}


def _checked(packet: OpOverloadPacket, rule: Rule) -> Rule:
    def apply(trace: ChannelTrace, node: Node) -> ChannelIds:
        ids, value = rule(trace, node), node.meta["val"]
        results, values = (list(x) if isinstance(x, list | tuple) else [x] for x in (ids, value))
        shapes, wanted = ([tuple(x.shape) for x in tensors if isinstance(x, Tensor)] for tensors in (results, values))
        if ids is not None and shapes != wanted:
            raise ValueError(f"the rule of {packet} returns ids of shape {shapes}, its result has {wanted}")
        thinned = [thin(x) for x in results if isinstance(x, Tensor)]
        return thinned if isinstance(ids, list | tuple) else thinned[0] if thinned else None

    return apply
