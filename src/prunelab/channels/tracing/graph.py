"""The channel graph of a network: which channels are removed together, and where they are."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from prunelab.channels.equivalence.trial import repeated
from prunelab.channels.surgery import RESIZED
from prunelab.channels.tracing.own_rules import with_own_rules
from prunelab.channels.tracing.rules import RULES
from prunelab.channels.tracing.trace import ChannelTrace, couple, first_names
from prunelab.channels.tracing.unmade import unmade
from prunelab.core.network.living_norms import plain_norms
from prunelab.core.network.preserve import preserve_state
from prunelab.core.network.torch_export import TracingError, export_program
from prunelab.core.types import Example
from prunelab.measure.latency import suited

WIDTHS = ("dim", "head_size", "hidden", "channels", "features", "planes", "embd")  # in names of numbers of channels
Place = tuple[str, int]  # (parameter or buffer, axis)


Kind = Literal["conv", "linear", "head", "stream"]


@dataclass(frozen=True)
class Group:
    """Units that are removed individually and occupy the same axes of the same tensors."""

    name: str  # of the first weight that produces its channels
    kind: Kind  # heads of attention; channels under a norm over channels; else made by a convolution, or by none
    makers: tuple[str, ...]  # the weights that produce its channels, along axis 0 or as `axes` says
    units: Tensor  # their indices


@dataclass(frozen=True)
class Pad:
    """Zero channels that a ConstantPad module adds, coupled to channels that layers produce."""

    padding: tuple[int, ...]  # of the module, the last axis first
    pair: int  # the pair of `padding` for channels
    units: Tensor  # of the channels before, then of those after; -1: no unit, it stays

    def without(self, alive: Tensor) -> tuple[int, ...] | None:
        """The padding that remains; `alive` is by unit, its last entry for no unit. None: all remains."""
        kept, padding, before = alive[self.units], list(self.padding), self.padding[2 * self.pair]
        padding[2 * self.pair : 2 * self.pair + 2] = [int(kept[:before].sum()), int(kept[before:].sum())]
        return None if kept.all() else tuple(padding)


@dataclass(frozen=True)
class ChannelGraph:
    """Every unit of a network by index, and where its channels are."""

    groups: tuple[Group, ...]
    places: Mapping[Place, Tensor]  # the unit at each position along an axis; -1: no unit, it stays
    scaling_modules: Mapping[str, Tensor]  # last module to scale its units -> the unit of each channel
    stays: Mapping[str, str]  # weights whose channels must stay -> why
    pads: Mapping[str, Pad] = field(default_factory=dict)  # by module
    norms: Mapping[str, int] = field(default_factory=dict)  # scales of norms over units -> their axis in the input
    counts: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)  # (module, attribute) -> units it counts
    axes: Mapping[str, int] = field(default_factory=dict)  # of makers whose channels do not lie along axis 0

    def makes(self, place: Place) -> bool:
        """Whether the channels there are what the tensor makes, scales or shifts, not what it reads."""
        return place[1] == self.axes.get(place[0], 0)

    @property
    def units(self) -> int:
        return sum(len(group.units) for group in self.groups)


def channel_graph(net: nn.Module, example: Example) -> ChannelGraph:
    """The channels of `net` as it computes on `example`, a batch of inputs, in eval mode.

    Where eval mode skips layers (auxiliary heads), train mode is traced as well. Inputs and outputs of the network are
    kept whole, and so is all that enters an operation without a rule. Raises ValueError with the reason and the line
    where torch.export cannot trace the network, or the network does not accept the example.
    """
    programs = [export(net, example, training=False)]
    if _unused(net, programs[0]):
        programs.append(export(net, example, training=True))
    trace = couple(net, programs, with_own_rules(RULES))
    graph = _resolve(trace)
    return replace(graph, stays={**unmade(trace, programs), **graph.stays})


def export(net: nn.Module, example: Example, training: bool) -> ExportedProgram:
    """The program of `net` on `example`, with fixed shapes; in train mode on two inputs at least.

    Raises TracingError, a ValueError.
    """
    inputs = suited(net, example)
    if training:
        inputs = repeated(inputs)
    with plain_norms(net), preserve_state(net, training), torch.compiler.set_stance("force_eager"):
        program = export_program(net, inputs)
    for node in program.graph.nodes:
        sizes = [size for x in tree_leaves(node.meta.get("val")) if isinstance(x, Tensor) for size in x.shape]
        if not all(isinstance(size, int) for size in sizes):
            raise TracingError(net, inputs, f"the shape of {node.target} depends on values, as that of x[x > 0]")
    return program


def _unused(net: nn.Module, program: ExportedProgram) -> bool:
    names, inputs = first_names(net), program.graph_signature.inputs_to_parameters
    used = {names[inputs[node.name]] for node in program.graph.nodes if node.name in inputs and node.users}
    return any(name not in used for name, _ in net.named_parameters())


def _resolve(trace: ChannelTrace) -> ChannelGraph:
    classes, stays = trace.coupling.classes(), trace.coupling.stays()
    where = {place: classes[channels] for place, channels in trace.sites.items()}
    pads = {module: classes[channels] for module, (_, _, channels) in trace.pads.items()}
    footprints: dict[int, list[Place]] = {}
    made: dict[str, list[int]] = {w: where[w, trace.axes.get(w, 0)].unique().tolist() for w in trace.makers}
    for place, channels in [*where.items(), *(((module, -1), c) for module, c in pads.items())]:
        for channel in channels.unique().tolist():
            footprints.setdefault(channel, []).append(place)
    free: dict[tuple[Place, ...], list[int]] = {}
    for channel in dict.fromkeys(c for channels in made.values() for c in channels):
        if channel not in stays:
            free.setdefault(tuple(footprints[channel]), []).append(channel)
    heads = {c for channels in trace.heads for c in classes[channels].tolist()}
    streams = {c for name in trace.norms for c in where[name, 0].tolist()}
    unit_of = torch.full((len(classes),), -1)
    groups: list[Group] = []
    names: Counter[str] = Counter()
    for footprint, alike in free.items():
        if len(alike) == 1:  # without its only unit the layer would be dead
            stays[alike[0]] = "all its channels are coupled and form a single unit"
            continue
        makers = tuple(w for w in trace.makers if (w, trace.axes.get(w, 0)) in footprint)
        kind: Kind = "conv" if any(trace.makers[w] == "conv" for w in makers) else "linear"
        kind = "head" if alike[0] in heads else "stream" if alike[0] in streams else kind
        first = sum(len(group.units) for group in groups)
        units = torch.arange(first, first + len(alike))
        unit_of[torch.tensor(alike)] = units
        name = next((w for w in makers if w not in names), makers[0])
        names[name] += 1
        groups.append(Group(name if names[name] == 1 else f"{name}#{names[name]}", kind, makers, units))
    places = {place: unit_of[channels] for place, channels in where.items()}
    places = {place: units for place, units in places.items() if (units >= 0).any()}
    reasons = {
        weight: next(stays[c] for c in channels if c in stays)
        for weight, channels in made.items()
        if any(c in stays for c in channels)
    }
    scaling_modules = {module: unit_of[classes[channels]] for module, channels in trace.scaling_modules.items()}
    return ChannelGraph(
        tuple(groups),
        places,
        {module: units for module, units in scaling_modules.items() if (units >= 0).any()},
        reasons,
        {module: Pad(padding, pair, unit_of[pads[module]]) for module, (padding, pair, _) in trace.pads.items()},
        {name: axis for name, axis in trace.norms.items() if (name, 0) in places},
        _counts(trace, heads, classes, unit_of),
        trace.axes,
    )


def _counts(trace: ChannelTrace, heads: set[int], classes: Tensor, unit_of: Tensor) -> dict[tuple[str, str], Tensor]:
    """By module and attribute, the units that a number counts by which the module's code shapes a tensor."""
    counts: dict[tuple[str, str], Tensor] = {}
    for path, channels in trace.sizes:
        units, module = unit_of[classes[channels]], trace.net.get_submodule(path)
        of_heads = len(units.unique()) == len(units) and not heads.isdisjoint(classes[channels].tolist())
        for name, value in vars(module).items():
            if (
                type(value) is int
                and value == len(units)
                and (units >= 0).any()
                and _counts_such(module, name, of_heads)
            ):
                counts.setdefault((path, name), units)
    return counts | _shapes(trace, classes, unit_of)


def _shapes(trace: ChannelTrace, classes: Tensor, unit_of: Tensor) -> dict[tuple[str, str], Tensor]:
    """Where a module holds the shape in which its code views a parameter of its own: the units that it counts."""
    counts: dict[tuple[str, str], Tensor] = {}
    for (tensor, _), channels in trace.sites.items():
        path = tensor.rpartition(".")[0]
        units, module = unit_of[classes[channels]], trace.net.get_submodule(path)
        if isinstance(module, RESIZED) or not (units >= 0).any():
            continue
        for name, value in vars(module).items():
            if "shape" in name and type(value) is tuple and [size for size in value if size != 1] == [len(units)]:
                counts[path, f"{name}.{value.index(len(units))}"] = units
    return counts


def _counts_such(module: nn.Module, name: str, of_heads: bool) -> bool:
    """By its name, as two numbers may be the same by chance."""
    if of_heads:
        return re.search(r"(^|_)n?heads?$", name) is not None
    return any(word in name for word in WIDTHS) and not isinstance(module, nn.MultiheadAttention)
