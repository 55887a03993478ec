"""Filters: the weights that make one output channel, wherever a layer has them."""

from torch import Tensor, nn

from prunelab.core.network.prunable import TRANSPOSED


def transposed_groups(net: nn.Module) -> dict[str, int]:
    """The weights of transposed convolutions, which are (in, out / groups, ...), and the groups of each."""
    groups = {id(layer.weight): layer.groups for layer in net.modules() if isinstance(layer, TRANSPOSED)}
    return {name: groups[id(p)] for name, p in net.named_parameters() if id(p) in groups}


def by_filter(weight: Tensor, transposed: int | None) -> Tensor:
    """A view of a weight as (groups, filters of a group, inputs, ...); `transposed` has its `transposed_groups`.

    A weight (out, in / groups, ...) is one group of all filters, as each meets its inputs in the same order.
    """
    return weight[None] if transposed is None else weight.unflatten(0, (transposed, -1)).transpose(1, 2)
