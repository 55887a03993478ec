"""Weights that make no channels which could be cut, and why."""

from collections.abc import Sequence

from torch.export import ExportedProgram
from torch.fx import Node

from prunelab.channels.tracing.attention import PRODUCTS
from prunelab.channels.tracing.operations import CONVOLUTIONS, aten, packet_of
from prunelab.channels.tracing.trace import ChannelTrace, first_names
from prunelab.core.network.prunable import layer_weights

UNUSED = "forward does not use it"


def unmade(trace: ChannelTrace, programs: Sequence[ExportedProgram]) -> dict[str, str]:
    """The parameters of two or more dimensions that are none of `trace.makers`, by name -> where they are used.

    Those of parametrizations and masks of torch.nn.utils.prune are used by the layer that computes its weight from
    them. What is only added, multiplied or moved, as an embedding of positions, is left out. Weights of layers may also
    be UNUSED.
    """
    reasons: dict[str, str] = {}
    used: set[str] = set()
    for program in programs:
        constants = _constants(trace, program)
        for node in program.graph.nodes:
            if node.op != "call_function" or node in constants:
                continue
            for arg in node.all_input_nodes:
                names = constants.get(arg, set())
                used |= names
                if names and _weighs(trace, node):
                    how = " with a computed weight" if arg.op == "call_function" else ""
                    why = f"{packet_of(node)}{how}, called in {trace.location(node)}"
                    reasons |= {name: reasons.get(name, why) for name in sorted(names)}
    wide = [name for name, p in trace.net.named_parameters() if p.dim() > 1 and name not in trace.makers]
    unused = layer_weights(trace.net).keys() - used
    return {name: reasons.get(name, UNUSED) for name in wide if name in reasons or name in unused}


def _constants(trace: ChannelTrace, program: ExportedProgram) -> dict[Node, set[str]]:
    """Nodes that no input of the network reaches -> the parameters and buffers that they are computed from."""
    names, signature = first_names(trace.net), program.graph_signature
    own = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants: dict[Node, set[str]] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name not in signature.user_inputs:
            constants[node] = {names[own[node.name]]} if own.get(node.name) in names else set()
        elif node.op in ("get_attr", "call_function") and all(arg in constants for arg in node.all_input_nodes):
            constants[node] = set[str]().union(*(constants[arg] for arg in node.all_input_nodes))
    return constants


def _weighs(trace: ChannelTrace, node: Node) -> bool:
    """Whether it is a layer, or an operation without a rule, which may be one."""
    packet = packet_of(node)
    return packet in {*CONVOLUTIONS, *PRODUCTS, aten.linear} or packet not in trace.rules
