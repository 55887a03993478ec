"""How does one get through the operations of an exported net, and what is coupled along the way?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node

from prunelab.channels.surgery import RESIZED
from prunelab.channels.tracing.channel_ids import thin
from prunelab.channels.tracing.coupling import Coupling

Call = Any  # a torch.fx.Node; its arguments may be anything
Labels = Tensor | list[Tensor] | None  # None: a value without channels, such as a constant
Rule = Callable[["ChannelTrace", Node], Labels]
CONTAINERS = (nn.ParameterList, nn.ParameterDict)


class UnknownError(Exception):
    """What an operation does to channels is not known."""


@dataclass
class ChannelTrace:
    """Goes through the operations in their order, each by its rule; afterwards it knows all that is coupled."""

    net: nn.Module
    rules: Mapping[Any, Rule]  # by operation: what it does to channels (channels/tracing/rules.py)
    coupling: Coupling = field(default_factory=Coupling)
    sites: dict[tuple[str, int], Tensor] = field(default_factory=dict)  # (tensor, axis) -> channels
    makers: dict[str, Literal["conv", "linear"]] = field(default_factory=dict)  # weights that make channels, in order
    scaling_modules: dict[str, Tensor] = field(
        default_factory=dict
    )  # makers, or the norms behind them -> their channels
    pads: dict[str, tuple[tuple[int, ...], int, Tensor]] = field(default_factory=dict)  # module -> padding, pair, zeros
    whole: dict[str, str] = field(default_factory=dict)  # tensors that something unknown is done to -> what

    def over(self, program: ExportedProgram) -> None:
        signature = program.graph_signature
        names = first_names(self.net)
        inputs = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._tensors = {node: names[name] for node, name in inputs.items() if name in names}
        self._values: dict[Node, Labels] = {}
        for node in program.graph.nodes:
            if node.name in signature.user_inputs:
                self._values[node] = _filled(node.meta["val"], 0)
            elif node.op == "call_function":
                self._values[node] = self._call(node)
            elif node.op == "output":
                self._keep(node, "the output of the net")

    # What rules ask for

    def labels(self, arg: Any) -> Labels:
        return self._values.get(arg) if isinstance(arg, Node) else None

    def given(self, arg: Any) -> Tensor:
        labels = self.labels(arg)
        if not isinstance(labels, Tensor):
            raise UnknownError
        return labels

    def tensor(self, arg: Any) -> str | None:
        """The name of the parameter or buffer that is this argument."""
        return self._tensors.get(arg.name) if isinstance(arg, Node) else None

    def site(self, arg: Any, axis: int, channels: Tensor) -> None:
        """Says that `axis` of a parameter or buffer holds `channels`; None for `arg` is no tensor."""
        if arg is None:
            return
        name = self.tensor(arg)
        if name is None:  # surgery would not know what to shrink
            raise UnknownError("with weights that are computed on the way, as by weight_norm")
        owner = self.net.get_submodule(name.rpartition(".")[0])
        if type(owner).__module__.startswith("torch.nn.modules.") and not isinstance(owner, (*RESIZED, *CONTAINERS)):
            raise UnknownError(f"with a weight of {type(owner).__name__}, which would not learn of its new size")
        self._sited.add(name)
        before = self.sites.setdefault((name, axis), channels)
        self.coupling.join(before, channels)  # a module that is used twice

    def made(self, weight: str, count: int) -> Tensor:
        """The channels that a weight makes; the same ones each time it is used."""
        return self.sites[weight, 0] if (weight, 0) in self.sites else self.coupling.new(count)

    def module(self, node: Call) -> tuple[str, nn.Module]:
        """The innermost module that called an operation."""
        stack = node.meta.get("nn_module_stack") or {"": ("", None)}
        path = list(stack.values())[-1][0]
        path = path.removeprefix("L['self']").removeprefix(".").split("@")[0]
        return path, self.net.get_submodule(path)

    # One operation

    def _call(self, node: Call) -> Labels:
        packet = getattr(node.target, "overloadpacket", node.target)
        self._sited: set[str] = set()
        if all(self._values.get(arg) is None for arg in node.all_input_nodes):
            self._keep(node, f"{packet} of it, called in {self.where(node)}")
            return None
        try:
            if packet not in self.rules:
                raise UnknownError
            if packet.__name__.endswith("_") and self.labels(node.args[0]) is None:
                raise UnknownError("in place, of a constant")  # which may have other names that know nothing of it
            labels = self.rules[packet](self, node)
        except UnknownError as error:
            self._sited.clear()
            reason = f"{packet} {error}".strip() + f", called in {self.where(node)}"
            stays = self.coupling.new(1)
            self.coupling.keep(stays, reason)
            labels = _filled(node.meta["val"], int(stays))
            self._keep(node, reason)
        else:
            self._keep_tensors(node, f"{packet} of it, called in {self.where(node)}")
        return labels

    def where(self, node: Call) -> str:
        path, module = self.module(node)
        return f"{path or 'the net'} ({type(module).__name__})"

    def _keep(self, node: Call, reason: str) -> None:
        for arg in node.all_input_nodes:
            labels = self._values.get(arg)
            for part in labels if isinstance(labels, list) else [labels]:
                if part is not None:
                    self.coupling.keep(thin(part), reason)
        self._keep_tensors(node, reason)

    def _keep_tensors(self, node: Call, reason: str) -> None:
        """Parameters and buffers of which no rule has said what their axes hold."""
        for arg in node.all_input_nodes:
            if (name := self.tensor(arg)) is not None and name not in self._sited:
                self.whole.setdefault(name, reason)


def first_names(net: nn.Module) -> dict[str, str]:
    """By each name of each parameter and buffer its first one: tied weights have several."""
    tensors = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors}


def _filled(value: Any, channel: int) -> Labels:
    """Labels of a value that all is of one channel."""
    number = torch.tensor(channel)
    if isinstance(value, Tensor):
        return number.expand(value.shape)
    if isinstance(value, list | tuple):
        return [number.expand(v.shape if isinstance(v, Tensor) else ()) for v in value]
    return None


def couple(net: nn.Module, programs: Sequence[ExportedProgram], rules: Mapping[Any, Rule]) -> ChannelTrace:
    """All that is coupled in any of `programs`, which are exports of `net`."""
    walk = ChannelTrace(net, rules)
    for program in programs:
        walk.over(program)
    for (name, _), channels in walk.sites.items():
        if name in walk.whole:
            walk.coupling.keep(channels, walk.whole[name])
    return walk
