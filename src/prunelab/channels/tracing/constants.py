"""The actual values of tensors in an exported program that depend on none of its inputs."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg

from prunelab.channels.tracing.operations import aten


class Constants:
    def __init__(self, program: ExportedProgram) -> None:
        signature = program.graph_signature
        keys = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        tensors = {**program.state_dict, **program.constants}
        self._stored = {name: tensors[key] for name, key in keys.items() if key in tensors}
        self._written = {base for node in program.graph.nodes if _writes(node) for base in _bases(node.args[0])}

    def value(self, node: Any) -> Tensor | None:
        """None where it is not known: what is written to is not followed."""
        if node in self._written:
            return None
        if node.op != "call_function":
            return self._stored[node.name].detach().cpu() if node.name in self._stored else None
        values = {arg: self.value(arg) for arg in node.all_input_nodes}
        if any(value is None for value in values.values()):
            return None
        result = node.target(*map_arg(node.args, values.__getitem__), **map_arg(node.kwargs, values.__getitem__))
        return result.cpu() if isinstance(result, Tensor) else None


def _writes(node: Any) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable and node.target is not aten.detach_.default


def _bases(node: Any) -> Iterator[Node]:
    """The tensor, and those of which it is a view."""
    while isinstance(node, Node):
        yield node
        returns = getattr(getattr(node.target, "_schema", None), "returns", [])
        node = node.args[0] if node.args and any(value.alias_info for value in returns) else None
