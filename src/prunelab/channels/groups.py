"""Groups of parameters that a penalty pulls at: pieces of weights and norms, numbered by unit."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunelab.channels.units import PrunableStructure, prunable_structure
from prunelab.core.granularity import Granularity
from prunelab.core.network.prunable import layer_weights


@dataclass(frozen=True)
class Cut:
    """A parameter cut into pieces that belong to groups."""

    name: str
    param: nn.Parameter
    axes: tuple[int, ...]  # it is cut along
    groups: Tensor  # the group's number for each piece, -1 for none: (pieces,)

    def lengths(self, order: float = 2.0) -> Tensor:
        """The norm of each piece, in the shape of the parameter with 1 along axes that are not cut."""
        wide = self.param.detach().unsqueeze(-1)  # an axis to sum over where every axis is cut
        others = [axis for axis in range(wide.dim()) if axis not in self.axes]
        dtype = torch.promote_types(wide.dtype, torch.float32)
        return torch.linalg.vector_norm(wide, order, others, keepdim=True, dtype=dtype).squeeze(-1)


class Groups:
    """Pieces of parameters by the number of their group.

    Sums gather in a fixed order: with atomic additions, as of index_add_ on a GPU, the ranks of a distributed
    training would drift apart.
    """

    def __init__(self, cuts: Sequence[Cut]) -> None:
        self.cuts = [cut for cut in cuts if (cut.groups >= 0).any()]
        device = self.cuts[0].param.device
        numbers = torch.cat([cut.groups for cut in self.cuts])
        values, group = numbers.unique(return_inverse=True)  # -1, if present, comes first
        group = group - int((values < 0).any())  # -1 again, and numbers from 0
        self._pieces = _members(group).to(device)  # (groups, most pieces of one)
        self._group = group.to(device)  # (pieces,); -1 has the last factor
        weights = [torch.full((len(cut.groups),), cut.param.numel() // len(cut.groups)) for cut in self.cuts]
        self.sizes = self._sum(torch.cat(weights).to(device))  # weights in each group: (groups,)

    def _sum(self, of_pieces: Tensor) -> Tensor:
        return torch.cat([of_pieces, of_pieces.new_zeros(1)])[self._pieces].sum(1)

    def _lengths(self, order: float) -> Tensor:
        return torch.cat([cut.lengths(order).flatten() for cut in self.cuts])

    def norms(self) -> Tensor:
        """The Euclidean norm of each group: (groups,)."""
        return self._sum(self._lengths(2.0).square()).sqrt()

    def zeros(self) -> Tensor:
        """Whether each group is exactly 0: (groups,), bool. By maxima, as squares of tiny weights are 0."""
        return self._sum((self._lengths(torch.inf) != 0).float()) == 0

    def scale(self, factors: Tensor) -> None:
        """Multiplies each group by its factor: (groups,)."""
        of_pieces = torch.cat([factors, factors.new_ones(1)])[self._group]
        with torch.no_grad():
            for cut, factor in zip(self.cuts, of_pieces.split([len(c.groups) for c in self.cuts]), strict=True):
                shape = [n if axis in cut.axes else 1 for axis, n in enumerate(cut.param.shape)]
                cut.param.mul_(factor.view(shape))


def _members(group: Tensor) -> Tensor:
    """The pieces of each group, padded with the number of all pieces: (groups, most of one group)."""
    order = group.argsort(stable=True)
    order = order[group[order] >= 0]
    counts = group[order].bincount()
    position = torch.arange(len(order)) - (counts.cumsum(0) - counts)[group[order]]
    table = torch.full((len(counts), int(counts.max())), len(group))
    table[group[order], position] = order
    return table


def filters(net: nn.Module, granularity: Granularity) -> list[Cut]:
    """What makes a unit and belongs to it, without what reads it."""
    layers, params, structure = layer_weights(net), dict(net.named_parameters()), _channel_units(granularity)
    return [
        Cut(name, params[name], (axis,), units)
        for (name, axis), units in structure.places.items()
        if name in params and (name not in layers or structure.makes((name, axis)))
    ]


def _channels(net: nn.Module, granularity: Granularity) -> list[Cut]:
    layers, structure = layer_weights(net), _channel_units(granularity)
    read = {p: units for p, units in structure.places.items() if p[0] in layers and not structure.makes(p)}
    most = max((int(units.max()) for units in read.values()), default=0) + 1
    return [  # separate numbers for each layer
        Cut(name, layers[name], (axis,), units.where(units < 0, units + i * most))
        for i, ((name, axis), units) in enumerate(read.items())
    ]


def _shapes(net: nn.Module, granularity: Granularity) -> list[Cut]:
    layers, structure, cuts, first = layer_weights(net), _channel_units(granularity), list[Cut](), 0
    for name in structure.makers:
        axes = tuple(axis for axis in range(layers[name].dim()) if not structure.makes((name, axis)))
        positions = math.prod(layers[name].shape[axis] for axis in axes)
        cuts.append(Cut(name, layers[name], axes, torch.arange(first, first + positions)))
        first += positions
    return cuts


def _depth(net: nn.Module, granularity: Granularity) -> list[Cut]:
    units = prunable_structure(granularity)
    if units is None or not units.members:
        kind = type(granularity).__name__
        raise ValueError(f"over=depth penalises blocks, units are of kind {kind}: use prune/granularity=block")
    params = dict(net.named_parameters())
    return [Cut(name, params[name], (), torch.tensor([block])) for name, block in units.members.items()]


CUTS: dict[str, Callable[[nn.Module, Granularity], list[Cut]]] = {
    "filters": filters,
    "channels": _channels,
    "shapes": _shapes,
    "depth": _depth,
}


def _channel_units(granularity: Granularity) -> PrunableStructure:
    units = prunable_structure(granularity)
    if units is None or not units.places:
        kind = type(granularity).__name__
        raise ValueError(f"this penalty is on channels, units are of kind {kind}: use prune/granularity=filter")
    return units
