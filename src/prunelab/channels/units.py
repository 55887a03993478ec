"""Structured units: filters and neurons, with all that is coupled to them."""

import logging
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from prunelab.channels.equivalence.proof import unremovable
from prunelab.channels.plan import Plan
from prunelab.channels.tracing.coupling import INPUT, OUTPUT
from prunelab.channels.tracing.graph import ChannelGraph, Group, channel_graph
from prunelab.channels.tracing.unmade import UNUSED
from prunelab.core.granularity import Granularity, Layout, Structure
from prunelab.core.network.prunable import layer_weights
from prunelab.core.types import Example, Masks, Scores

log = logging.getLogger(__name__)


class PrunableStructure(Granularity):
    """Units that can be removed from a network, which becomes smaller. The units of all groups are numbered through."""

    members: Mapping[str, int] = MappingProxyType({})  # where units take layers whole: parameter -> the unit's number

    @property
    @abstractmethod
    def numbers(self) -> Mapping[str, Tensor]:
        """The unit numbers of each group, in the order of its scores and masks."""

    @property
    @abstractmethod
    def scaling_modules(self) -> Mapping[str, Tensor]:
        """Modules whose outputs are units: the unit's number for each output channel, -1 for none.

        Channels lie along axis 1 of the output, of a linear layer along the last. The modules are the norms behind
        the layers that make units, or those layers where no norm follows.
        """

    @property
    def places(self) -> Mapping[tuple[str, int], Tensor]:
        """Where units are channels: for each (tensor, axis) the unit's number at each index, -1 for none."""
        return {}

    @property
    def makers(self) -> tuple[str, ...]:
        """Where units are channels: the weights that make them."""
        return ()

    def structures(self, net: nn.Module) -> Mapping[str, Structure]:
        names, numbers = list(self.numbers), list(self.numbers.values())
        group_of = torch.cat(numbers).new_full((1 + max(int(n.max()) for n in numbers),), -1)
        for i, units in enumerate(numbers):
            group_of[units] = i
        layers: dict[str, set[tuple[str, int]]] = {name: set() for name in names}
        for (tensor, axis), units in self.places.items():
            for i in group_of[units[units >= 0]].unique().tolist():
                layers[names[i]].add((tensor.rpartition(".")[0], axis))
        kind = {path: type(net.get_submodule(path)).__name__ for found in layers.values() for path, _ in found}
        return {name: tuple(sorted((kind[path], axis) for path, axis in found)) for name, found in layers.items()}

    def makes(self, place: tuple[str, int]) -> bool:
        """Whether the channels at a place are made there, scaled or shifted, not read."""
        return place[1] == 0

    @abstractmethod
    def plan(self, keep: Masks) -> Plan:
        """How to remove the units that are False in `keep`."""


def prunable_structure(granularity: Granularity) -> PrunableStructure | None:
    """`granularity` where its units can be removed, else None."""
    return granularity if isinstance(granularity, PrunableStructure) else None


@dataclass(frozen=True)
class Channels(PrunableStructure):
    """Output channels of convolutions (filters) and of linear layers (neurons), with all that is coupled to them.

    Coupled are every filter or row that makes the channel, its bias, the scale and shift of its norms, and the
    weights of the next layers that read it. A unit's score is the mean over the layers that make it, each summed
    over the filter. `of` chooses the groups: "conv" with some convolution in it, "linear" with none, or both.
    `summed=False` leaves out channels that several layers make, as those of a residual stream (Li et al. 2017 prune
    only the first convolution of a block); depthwise convolutions, which make none of their own, do not count.
    Channels with anything frozen in them stay, and so do those that a skipped layer makes.
    """

    of_channels: ClassVar[bool] = True
    of: tuple[str, ...] = ("conv", "linear", "head", "stream")
    summed: bool = True
    graph: ChannelGraph | None = field(default=None, compare=False)
    groups: tuple[Group, ...] = ()
    shapes: Mapping[str, torch.Size] = field(default_factory=dict)  # of all parameters

    def bind(self, net: nn.Module, params: Mapping[str, Tensor], example: Example | None) -> Self:
        if example is None:
            raise ValueError(
                "pruning channels takes one forward pass to find what is coupled: "
                "set example_input_array on the LightningModule"
            )
        graph = channel_graph(net, example)
        of_kind = [group for group in graph.groups if group.kind in self.of]
        fixed = {group.name: _fixed(group, graph, net, params) for group in of_kind}
        groups = tuple(group for group in of_kind if not fixed[group.name])
        if not self.summed:
            groups = tuple(group for group in groups if not _is_summed(group, graph, net))
        shapes = {name: p.shape for name, p in net.named_parameters()}
        bound = replace(self, graph=graph, groups=groups, shapes=shapes)
        refused = unremovable(
            net, example, {g.name: len(g.units) for g in groups}, bound.expand, bound.plan, bound.norms
        )
        refusals = {maker: refused[group.name] for group in groups if group.name in refused for maker in group.makers}
        graph = replace(graph, stays={**refusals, **graph.stays})
        groups = tuple(group for group in groups if group.name not in refused)
        reasons: dict[str, list[str]] = {}
        layers = layer_weights(net)  # of which those that are not in `params` are skipped or frozen
        for weight, why in graph.stays.items():
            if (weight in params or weight not in layers) and why not in (INPUT, OUTPUT):
                reasons.setdefault(why, []).append(weight)
        for maker in dict.fromkeys(maker for group in of_kind for maker in group.makers if maker not in layers):
            reasons.setdefault("no layer of a kind that is pruned holds them", []).append(maker)
        for why, weights in reasons.items():
            more = f" and {len(weights) - 3} more" if len(weights) > 3 else ""
            log.warning("channels of %s%s stay: %s", ", ".join(weights[:3]), more, why)
        for group in of_kind:
            others = ", ".join(maker for maker in group.makers if maker in params)
            if others and (names := fixed[group.name]):
                log.warning("channels of %s stay: coupled to %s, skipped or frozen", others, ", ".join(names))
        if not groups:
            coupled = {name: f"{', '.join(names)} skipped or frozen" for name, names in fixed.items() if names}
            why = "; ".join(f"{weight}: {why}" for weight, why in [*graph.stays.items(), *coupled.items()])
            kinds = {"conv": "filters", "linear": "neurons", "head": "heads", "stream": "channels under LayerNorm"}
            wanted = " or ".join(kinds[kind] for kind in self.of)
            there = dict.fromkeys(str(group.kind) for group in graph.groups if group.kind not in self.of)
            option = " or ".join({"conv": "filter", "linear": "neuron"}.get(kind, kind) for kind in there)
            hint = f"; try prune/granularity={option} (in Python the class of that name)" if there else ""
            raise ValueError(f"no {wanted} to prune ({why or 'there is no such layer'}){hint}")
        return replace(bound, graph=graph, groups=groups)

    @property
    def _graph(self) -> ChannelGraph:
        assert self.graph is not None, "bind it to a network first"
        return self.graph

    def reduce(self, scores: Scores) -> Scores:
        device = next(iter(scores.values())).device
        total = torch.zeros(self._graph.units, device=device)
        makers = torch.zeros(self._graph.units, device=device)
        for (name, axis), units in self._graph.places.items():
            if self._graph.makes((name, axis)) and name in scores:
                rows = scores[name].movedim(axis, 0)
                rows = rows.flatten(1) if rows.dim() > 1 else rows[:, None]
                removed = (rows == -torch.inf).all(1)  # removed inputs of a remaining filter do not count
                sums = rows.masked_fill(rows == -torch.inf, 0).sum(1).masked_fill(removed, -torch.inf).float()
                numbers = units[units >= 0].to(device)
                total.index_add_(0, numbers, sums[(units >= 0).to(device)])
                makers.index_add_(0, numbers, torch.ones_like(numbers, dtype=torch.float))
        unscored = [g.name for g in self.groups if not makers[g.units.to(device)].all()]
        if unscored:
            raise ValueError(f"this criterion does not score {', '.join(unscored)}: skip them, or choose another")
        mean = total / makers
        return {group.name: mean[group.units.to(device)] for group in self.groups}

    def _alive(self, keep: Masks) -> Tensor:
        alive = torch.ones(self._graph.units + 1, dtype=torch.bool)  # the last for no unit
        for group in self.groups:
            if group.name in keep:
                alive[group.units] = keep[group.name].cpu()
        return alive

    def expand(self, keep: Masks) -> Masks:
        alive, masks = self._alive(keep), dict[str, Tensor]()
        device = next((kept.device for kept in keep.values()), None)
        for (name, axis), units in self._graph.places.items():
            if name in self.shapes and not (kept := alive[units]).all():
                shape = self.shapes[name]
                kept = kept.to(device).view([-1 if i == axis else 1 for i in range(len(shape))])
                masks[name] = (masks[name] & kept) if name in masks else kept.expand(shape).clone()
        return masks

    @property
    def numbers(self) -> Mapping[str, Tensor]:
        return {group.name: group.units for group in self.groups}

    @property
    def scaling_modules(self) -> Mapping[str, Tensor]:
        modules = {module: self._selected(units) for module, units in self._graph.scaling_modules.items()}
        return {module: units for module, units in modules.items() if (units >= 0).any()}

    @property
    def places(self) -> Mapping[tuple[str, int], Tensor]:
        return {place: self._selected(units) for place, units in self._graph.places.items()}

    @property
    def norms(self) -> Mapping[str, int]:
        graph = self.graph
        if graph is None:
            return {}
        return {n: a for n, a in graph.norms.items() if (self._selected(graph.places[n, 0]) >= 0).any()}

    @property
    def makers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(maker for group in self.groups for maker in group.makers))

    @property
    def unused(self) -> list[str]:
        """Weights that forward does not use."""
        return [name for name, why in self._graph.stays.items() if why == UNUSED]

    def makes(self, place: tuple[str, int]) -> bool:
        return self._graph.makes(place)

    def _selected(self, units: Tensor) -> Tensor:
        """-1 for units of the graph that belong to none of the groups."""
        chosen = torch.zeros(self._graph.units + 1, dtype=torch.bool)  # the last for no unit
        for group in self.groups:
            chosen[group.units] = True
        return units.where(chosen[units], -1)

    def layout(self, net: nn.Module) -> Layout:
        places = {place: units for place, units in self._graph.places.items() if place[0] in self.shapes}
        times = torch.stack([torch.bincount(u[u >= 0], minlength=self._graph.units) for u in places.values()])
        kinds: dict[str, Tensor] = {}
        columns: list[Tensor] = []
        for group in self.groups:
            alike, kind = times[:, group.units].unique(dim=1, return_inverse=True)
            kinds[group.name] = kind + len(columns)
            columns += alike.unbind(1)
        whole = torch.bincount(torch.cat(list(kinds.values()))).double()
        per = torch.stack(columns, 1).double()
        lengths = torch.tensor([len(units) for units in places.values()], dtype=torch.float64)
        return Layout(kinds, whole, [name for name, _ in places], per, lengths - per @ whole)

    def plan(self, keep: Masks) -> Plan:
        alive = self._alive(keep)
        kept = {place: alive[units].nonzero().flatten() for place, units in self._graph.places.items()}
        kept = {place: k for place, k in kept.items() if len(k) < len(self._graph.places[place])}
        pads = {module: pad.without(alive) for module, pad in self._graph.pads.items()}
        return Plan(
            kept,
            {module: padding for module, padding in pads.items() if padding is not None},
            counts={where: int(alive[u].sum()) for where, u in self._graph.counts.items() if not alive[u].all()},
        )


def _fixed(group: Group, graph: ChannelGraph, net: nn.Module, params: Mapping[str, Tensor]) -> list[str]:
    """Why it stays: its makers that are not in `params`, and what is frozen and would lose channels."""
    names = [maker for maker in group.makers if maker not in params]
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    touched = [n for (n, _), units in graph.places.items() if n in frozen and torch.isin(units, group.units).any()]
    return list(dict.fromkeys(names + touched))


def _is_summed(group: Group, graph: ChannelGraph, net: nn.Module) -> bool:
    """Whether its channels are made by several layers, or by one and the zeros of a shortcut."""
    convolutions = [m for m in net.modules() if isinstance(m, _ConvNd)]
    depthwise = {id(m.weight) for m in convolutions if 1 < m.groups == m.in_channels}
    makers = [maker for maker in group.makers if id(net.get_parameter(maker)) not in depthwise]
    return len(makers) > 1 or any(bool(torch.isin(group.units, pad.units).any()) for pad in graph.pads.values())


@dataclass(frozen=True)
class Filter(Channels):
    """Channels that convolutions make."""

    of: tuple[str, ...] = ("conv",)


@dataclass(frozen=True)
class Neuron(Channels):
    """Channels that linear layers make."""

    of: tuple[str, ...] = ("linear",)


@dataclass(frozen=True)
class Head(Channels):
    """Attention heads: the rows of queries, keys and values that make one, and what reads it."""

    of: tuple[str, ...] = ("head",)


@dataclass(frozen=True)
class Stream(Channels):
    """Channels under LayerNorm, RMSNorm or a group norm of one group, such as those of a transformer's residual stream.

    While they are masked, these norms take their statistics over the living channels, as the small network does.
    """

    of: tuple[str, ...] = ("stream",)
