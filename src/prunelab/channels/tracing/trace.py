"""Follows channels through the operations of an exported network and couples them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node

from prunelab.channels.surgery import RESIZED
from prunelab.channels.tracing.channel_ids import channels_of, thin, varying
from prunelab.channels.tracing.coupling import OUTPUT, Coupling

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
    scaling_modules: dict[str, Tensor] = field(default_factory=dict)  # makers, or norms after them -> channels
    pads: dict[str, tuple[tuple[int, ...], int, Tensor]] = field(default_factory=dict)  # module -> padding, pair, zeros
    norms: dict[str, int] = field(default_factory=dict)  # scales of norms over channels -> their axis in the input
    heads: list[Tensor] = field(default_factory=list)  # the channels of attention heads, one a head
    sizes: list[tuple[str, Tensor, int]] = field(default_factory=list)  # (module, heads, size of an axis of them)
    whole: dict[str, str] = field(default_factory=dict)  # tensors used by an unknown operation -> the reason

    def follow(self, program: ExportedProgram) -> None:
        signature = program.graph_signature
        names = first_names(self.net)
        inputs = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._tensors = {node: names[name] for node, name in inputs.items() if name in names}
        self._values: dict[Node, ChannelIds] = {}
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
        """Records that `axis` of a parameter or buffer holds `channels`; does nothing for None."""
        if arg is None:
            return
        name = self.tensor_name(arg)
        if name is None:  # surgery could not shrink it
            raise UnknownError("with computed weights, as of weight_norm")
        owner = self.net.get_submodule(name.rpartition(".")[0])
        if type(owner).__module__.startswith("torch.nn.modules.") and not isinstance(owner, (*RESIZED, *CONTAINERS)):
            raise UnknownError(f"with a weight of {type(owner).__name__}, whose sizes surgery does not update")
        self._sited.add(name)
        before = self.sites.setdefault((name, axis), channels)
        self.coupling.join(before, channels)  # a module may be called twice

    def outputs(self, weight: str, count: int) -> Tensor:
        """The channels that a weight produces; the same at each use."""
        return self.sites[weight, 0] if (weight, 0) in self.sites else self.coupling.new(count)

    def note_heads(self, node: Call, ids: Tensor) -> None:
        """Where heads lie along an axis after `node`: its module may hold the size of that axis."""
        for axis in varying(ids):
            heads, channels = ids.unique(), channels_of(ids, axis)
            if channels is not None and any(torch.isin(heads, known).all() for known in self.heads):
                each, rest = divmod(len(channels), len(heads))
                if not rest and torch.equal(channels, channels[::each].repeat_interleave(each)):
                    self.sizes.append((self.module(node)[0], heads, len(channels)))

    def module(self, node: Call) -> tuple[str, nn.Module]:
        """The innermost module that called an operation."""
        stack = node.meta.get("nn_module_stack") or {"": ("", None)}
        path = list(stack.values())[-1][0]
        path = path.removeprefix("L['self']").removeprefix(".").split("@")[0]
        return path, self.net.get_submodule(path)

    # One operation

    def _call(self, node: Call) -> ChannelIds:
        packet = getattr(node.target, "overloadpacket", node.target)
        self._sited: set[str] = set()
        if all(self._values.get(arg) is None for arg in node.all_input_nodes):
            self._keep(node, f"{packet} of it, called in {self.location(node)}")
            return None
        try:
            if packet not in self.rules:
                raise UnknownError
            if packet.__name__.endswith("_") and self.ids(node.args[0]) is None:
                raise UnknownError("in place, of a constant")  # the constant may be used elsewhere
            ids = self.rules[packet](self, node)
        except UnknownError as error:
            in_vain = _is_unread(node) and not packet.__name__.endswith("_")
            if in_vain and not any(self.tensor_name(arg) for arg in node.all_input_nodes):
                return None
            self._sited.clear()
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

    def _keep_tensors(self, node: Call, reason: str) -> None:
        """Marks parameters and buffers whose axes no rule has assigned."""
        for arg in node.all_input_nodes:
            if (name := self.tensor_name(arg)) is not None and name not in self._sited:
                self.whole.setdefault(name, reason)


def first_names(net: nn.Module) -> dict[str, str]:
    """Every name of each parameter and buffer -> its first name: tied weights have several."""
    tensors = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors}


def _is_unread(node: Node) -> bool:
    """Whether the network computes it in vain, as attention weights that nobody asked for."""
    return all(user.op == "call_function" and _is_unread(user) for user in node.users)


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
