"""Why weights of a network have no units, or not of the kind that is pruned."""

from collections.abc import Sequence
from fnmatch import fnmatch

from torch import nn

from prunelab.channels.tracing.graph import ChannelGraph
from prunelab.channels.units import Channels, PrunableStructure
from prunelab.core.network.prunable import layer_weights, unprunable_weights

OTHER_LAYER = "in no layer of a kind that is pruned, or behind a parametrization"
OTHER_UNITS = "has no units of this kind"


def stays(net: nn.Module, units: PrunableStructure, skip: Sequence[str]) -> dict[str, str]:
    """Each weight of a layer that loses none of its own channels, or only some -> why. `units` are bound to `net`."""
    graph = units.graph if isinstance(units, Channels) else None
    pruned = {*units.makers, *units.members}
    reasons = {
        name: _reason(net, name, graph, skip)
        for name in layer_weights(net)
        if name not in pruned or (graph and name in graph.stays)
    }
    cut = {name for name, _ in units.places}
    return reasons | {name: OTHER_LAYER for name in unprunable_weights(net) if name not in pruned | cut}


def _reason(net: nn.Module, name: str, graph: ChannelGraph | None, skip: Sequence[str]) -> str:
    if patterns := [pattern for pattern in skip if fnmatch(name, pattern)]:
        return f"skip={patterns[0]!r}"
    if not net.get_parameter(name).requires_grad:
        return "frozen"
    if graph and name in graph.stays:
        return graph.stays[name]
    together = [maker for group in graph.groups if name in group.makers for maker in group.makers] if graph else []
    for maker in together:
        if any(fnmatch(maker, pattern) for pattern in skip) or not net.get_parameter(maker).requires_grad:
            return f"coupled to {maker}, skipped or frozen"
    return OTHER_UNITS
