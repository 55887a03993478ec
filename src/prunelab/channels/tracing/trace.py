"""Follows channels through the operations of an exported network and couples them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg

from prunelab.channels.surgery import RESIZED
from prunelab.channels.tracing.channel_ids import along, channels_of, thin, varying
from prunelab.channels.tracing.constants import Constants
from prunelab.channels.tracing.coupling import OUTPUT, Coupling
from prunelab.channels.tracing.elements import Elements, along_line, followed, inputs_of, numbered
from prunelab.channels.tracing.operations import packet_of
from prunelab.channels.tracing.probe import Law, law

Call = Any  # a torch.fx.Node; its arguments may be anything
ChannelIds = Tensor | list[Tensor] | None  # None: a value without channels, such as a constant
Rule = Callable[["ChannelTrace", Node], ChannelIds]
CONTAINERS = (nn.ParameterList, nn.ParameterDict)


class UnknownError(Exception):
    """An operation, or the way it is used, has no rule."""


def argument(node: Call, index: int, name: str, default: Any = None) -> Any:
    return node.args[index] if len(node.args) > index else node.kwargs.get(name, default)


@dataclass
class ChannelTrace:
    """Applies the rule of each operation in order; afterwards it holds all couplings."""

    net: nn.Module
    rules: Mapping[Any, Rule]  # by operation (channels/tracing/rules.py)
    coupling: Coupling = field(default_factory=Coupling)
    sites: dict[tuple[str, int], Tensor] = field(default_factory=dict)  # (tensor, axis) -> channels
    makers: dict[str, Literal["conv", "linear"]] = field(default_factory=dict)  # weights that produce channels
    axes: dict[str, int] = field(default_factory=dict)  # of makers whose channels do not lie along axis 0
    scaling_modules: dict[str, Tensor] = field(default_factory=dict)  # makers, or norms after them -> channels
    pads: dict[str, tuple[tuple[int, ...], int, Tensor]] = field(default_factory=dict)  # module -> padding, pair, zeros
    norms: dict[str, int] = field(default_factory=dict)  # scales of norms over channels -> their axis in the input
    heads: list[Tensor] = field(default_factory=list)  # the channels of attention heads, one a head
    sizes: list[tuple[str, Tensor]] = field(default_factory=list)  # (module, channels along an axis that it shaped)
    whole: dict[str, str] = field(default_factory=dict)  # tensors used by an unknown operation -> the reason
    laws: dict[str, Law | None] = field(default_factory=dict)  # what probes of operations found

    def __post_init__(self) -> None:
        self.parameters = {name for name, _ in self.net.named_parameters()}

    def follow(self, program: ExportedProgram) -> None:
        signature = program.graph_signature
        names = first_names(self.net)
        inputs = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._tensors = {node: names[name] for node, name in inputs.items() if name in names}
        self._values: dict[Node, ChannelIds] = {}
        self._elements: dict[Node, Elements | None] = {}
        self._constants = Constants(program)
        for node in program.graph.nodes:
            if node.name in signature.user_inputs:
                self._values[node] = _filled(node.meta["val"], 0)
            elif node.op == "call_function":
                self._values[node] = self._call(node)
            elif node.op == "output":
                self._keep(node, OUTPUT)

    # For rules

    def ids(self, arg: Any) -> ChannelIds:
        return self._values.get(arg) if isinstance(arg, Node) else None

    def require(self, arg: Any) -> Tensor:
        ids = self.ids(arg)
        if not isinstance(ids, Tensor):
            raise UnknownError
        return ids

    def tensor_name(self, arg: Any) -> str | None:
        """The name of the parameter or buffer passed as this argument."""
        return self._tensors.get(arg.name) if isinstance(arg, Node) else None

    def assign(self, arg: Any, axis: int, channels: Tensor) -> None:
        """Records that `axis` of a parameter or buffer, or of what is made of it, holds `channels`. None: nothing."""
        if arg is None:
            return
        name = self.tensor_name(arg)
        if name is None:
            self.meet(arg, along(channels, axis, arg.meta["val"].shape))
        else:
            self._assign(name, axis, channels)

    def _assign(self, name: str, axis: int, channels: Tensor) -> None:
        owner = self.net.get_submodule(name.rpartition(".")[0])
        if type(owner).__module__.startswith("torch.nn.modules.") and not isinstance(owner, (*RESIZED, *CONTAINERS)):
            raise UnknownError(f"with a weight of {type(owner).__name__}, whose sizes surgery does not update")
        self.sited.add(name)
        before = self.sites.setdefault((name, axis), channels)
        self.coupling.join(before, channels)  # a module may be called twice

    def meet(self, arg: Any, ids: Tensor) -> None:
        """Couples a value that no layer makes with the channels that it is combined with: `ids`, in its shape.

        The parameters and buffers of which it is made lose what it must lose. A constant can lose nothing.
        """
        ids = thin(ids)
        for line in varying(ids):
            channels, elements = channels_of(ids, line), self.elements(arg)
            if channels is None or elements is None:
                raise UnknownError("with a tensor that is computed, but not elementwise")
            for source, indices in elements.items():
                self._cut(source, along_line(indices, channels, line, source.meta["val"].shape))

    def _cut(self, source: Node, where: tuple[int, Tensor, Tensor] | None) -> None:
        name = self.tensor_name(source)
        if where is None or (name is None and len(where[1])):
            raise UnknownError("with a tensor that is not a parameter, or has several axes")
        axis, index, channels = where
        if not len(index):  # it is broadcast
            return
        rows = torch.zeros(source.meta["val"].shape[axis], dtype=torch.long)
        if len(index.unique()) < len(rows):
            raise UnknownError("with a part of a parameter")
        rows[index] = channels
        self.coupling.join(rows[index], channels)  # one may meet several
        assert name is not None
        self._assign(name, axis, rows)

    def elements(self, arg: Any) -> Elements | None:
        """The elements of parameters in a value without channels; None where an operation mixed them."""
        return self._elements[arg] if arg in self._elements else numbered(arg)

    def law(self, node: Call, axes: Sequence[int | None]) -> Law | None:
        """What a probe finds of an operation; the same operation is probed once."""
        forms = {arg: _form(arg) for arg in node.all_input_nodes}
        key = str((node.target, map_arg((node.args, node.kwargs), forms.__getitem__), axes))
        if key not in self.laws:
            self.laws[key] = law(node, axes)
        return self.laws[key]

    def outputs(self, weight: str, count: int, axis: int = 0) -> Tensor:
        """The channels that a weight produces; the same at each use."""
        return self.sites[weight, axis] if (weight, axis) in self.sites else self.coupling.new(count)

    def note_size(self, node: Call, ids: Tensor) -> None:
        """Records a reshaped axis of channels: its size may be a number that the module around `node` holds."""
        for axis in varying(ids):
            channels = channels_of(ids, axis)
            if channels is not None and len(channels.unique_consecutive()) == len(channels.unique()):
                self.sizes.append((self.module(node)[0], channels))

    def module(self, node: Call) -> tuple[str, nn.Module]:
        """The innermost module that called an operation."""
        stack = node.meta.get("nn_module_stack") or {"": ("", None)}
        path = list(stack.values())[-1][0]
        path = path.removeprefix("L['self']").removeprefix(".").split("@")[0]
        return path, self.net.get_submodule(path)

    # One operation

    def _call(self, node: Call) -> ChannelIds:
        packet = packet_of(node)
        self.sited: set[str] = set()
        if packet is not torch.ops.aten.embedding and all(self._values.get(arg) is None for arg in inputs_of(node)):
            self._elements[node] = self._follow_elements(node)
            return None
        try:
            if packet.__name__.endswith("_") and self.ids(node.args[0]) is None:
                raise UnknownError("in place, of a constant")  # the constant may be used elsewhere
            ids = self.rules.get(packet, self.rules[None])(self, node)
        except UnknownError as error:
            in_vain = _is_unread(node) and not packet.__name__.endswith("_")
            if in_vain and not any(self.tensor_name(arg) for arg in node.all_input_nodes):
                return None
            self.sited.clear()
            reason = f"{packet} {error}".strip() + f", called in {self.location(node)}"
            stays = self.coupling.new(1)
            self.coupling.keep(stays, reason)
            ids = _filled(node.meta["val"], int(stays))
            self._keep(node, reason)
        else:
            self._keep_tensors(node, f"{packet} of it, called in {self.location(node)}")
        return ids

    def location(self, node: Call) -> str:
        path, module = self.module(node)
        return f"{path or 'the network'} ({type(module).__name__})"

    def _keep(self, node: Call, reason: str) -> None:
        for arg in node.all_input_nodes:
            ids = self._values.get(arg)
            for part in ids if isinstance(ids, list) else [ids]:
                if part is not None:
                    self.coupling.keep(thin(part), reason)
        self._keep_tensors(node, reason)

    def _follow_elements(self, node: Call) -> Elements | None:
        """The elements in the result of an operation on values without channels; None where it mixes them."""
        sources = {arg: self.elements(arg) for arg in inputs_of(node) if isinstance(arg.meta.get("val"), Tensor)}
        known = {arg: elements for arg, elements in sources.items() if elements is not None}
        names = {source: self.tensor_name(source) for elements in known.values() for source in elements}
        if len(known) == len(inputs_of(node)):
            if not any(names.values()):
                return numbered(node) if isinstance(node.meta.get("val"), Tensor) else None
            masked = [source for source, name in names.items() if name in self.parameters]
            if (elements := followed(node, known, masked, self._constants.value)) is not None:
                return elements
        self._keep_tensors(node, f"{packet_of(node)} of it, called in {self.location(node)}")
        return None

    def _keep_tensors(self, node: Call, reason: str) -> None:
        """Marks parameters and buffers whose axes no rule has assigned."""
        for arg in inputs_of(node):
            for source in self._elements.get(arg) or [arg]:
                if (name := self.tensor_name(source)) is not None and name not in self.sited:
                    self.whole.setdefault(name, reason)


def first_names(net: nn.Module) -> dict[str, str]:
    """Every name of each parameter and buffer -> its first name: tied weights have several."""
    tensors = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors}


def _is_unread(node: Node) -> bool:
    """Whether the network computes it in vain, as attention weights that nobody asked for."""
    ahead, seen = list(node.users), set(node.users)
    while ahead:
        if (user := ahead.pop()).op != "call_function":
            return False
        new = user.users.keys() - seen
        ahead.extend(new)
        seen |= new
    return True


def _form(arg: Call) -> Any:
    value = arg.meta.get("val")
    return (value.shape, value.dtype) if isinstance(value, Tensor) else value


def _filled(value: Any, channel: int) -> ChannelIds:
    """The ids of a value that belongs to a single channel."""
    number = torch.tensor(channel)
    if isinstance(value, Tensor):
        return number.expand(value.shape)
    if isinstance(value, list | tuple):
        return [number.expand(v.shape if isinstance(v, Tensor) else ()) for v in value]
    return None


def couple(net: nn.Module, programs: Sequence[ExportedProgram], rules: Mapping[Any, Rule]) -> ChannelTrace:
    """All couplings in `programs`, which are exports of `net`."""
    trace = ChannelTrace(net, rules)
    for program in programs:
        trace.follow(program)
    for (name, _), channels in trace.sites.items():
        if name in trace.whole:
            trace.coupling.keep(channels, trace.whole[name])
    return trace
