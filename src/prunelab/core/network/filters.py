"""Filters: the weights that make one output channel, wherever a layer has them."""

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from prunelab.core.network.prunable import PRUNABLE, TRANSPOSED, own_weight


def transposed_layers(net: nn.Module) -> dict[str, _ConvTransposeNd]:
    """The transposed convolutions of `net`, by the names of their weights, which are (in, out / groups, ...).

    Without those whose weight is a layer's of another kind too, where it is (out, in / groups, ...).
    """
    other = {id(own_weight(layer)) for layer in net.modules() if isinstance(layer, PRUNABLE)}
    layers = {id(own_weight(layer)): layer for layer in net.modules() if isinstance(layer, TRANSPOSED)}
    return {name: layers[id(p)] for name, p in net.named_parameters() if id(p) in layers.keys() - other}


def transposed_groups(net: nn.Module) -> dict[str, int]:
    """The groups of each of the `transposed_layers`, by the name of its weight."""
    return {name: layer.groups for name, layer in transposed_layers(net).items()}


def by_filter(weight: Tensor, transposed: int | None) -> Tensor:
    """A view of a weight as (groups, filters of a group, inputs, ...); `transposed` has its `transposed_groups`.

    A weight (out, in / groups, ...) is one group of all filters, as each meets its inputs in the same order.
    """
    return weight[None] if transposed is None else weight.unflatten(0, (transposed, -1)).transpose(1, 2)


def as_weight(filters: Tensor, transposed: int | None) -> Tensor:
    """The weight of which `filters` are the view `by_filter`."""
    return filters[0] if transposed is None else filters.transpose(1, 2).flatten(0, 1)
