"""Which elements of which parameters a computed tensor holds, until it meets channels."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves

from prunelab.channels.tracing.channel_ids import channels_of, thin, varying
from prunelab.channels.tracing.operations import BY_TENSORS, INDEXING, LIKE, MOVEMENTS, POSITIONWISE, packet_of
from prunelab.channels.tracing.probe import elementwise

# Source -> for each position the index of the source's element, in its flattened form, that it was made of; -1: of
# none. A source is the node of a parameter, of a buffer, or of a constant that surgery cannot cut.
Elements = Mapping[Node, Tensor]


def numbered(node: Any) -> Elements:
    """A source itself."""
    shape = node.meta["val"].shape
    return {node: torch.arange(shape.numel()).view(shape)}


def inputs_of(node: Any) -> list[Node]:
    """The inputs of which more than shape and type count."""
    return list(node.all_input_nodes[: 1 if packet_of(node) in LIKE else None])


def followed(
    node: Any, sources: Mapping[Node, Elements], masked: Collection[Node], number: Callable[[Node], Tensor | None]
) -> Elements | None:
    """The elements in the result of `node`, from those of its inputs; None where it mixes them.

    `masked` are the sources that may be 0; `number` returns the actual values of a constant, for indices.
    """
    packet = packet_of(node)
    if not isinstance(node.meta.get("val"), Tensor) or node.target is torch.ops.aten.view.dtype:
        return None
    if packet in MOVEMENTS | INDEXING:
        indices = node.args[1] if packet in BY_TENSORS else []
        values = {arg: number(arg) for arg in tree_leaves(indices) if isinstance(arg, Node)}
        known = {arg: value for arg, value in values.items() if value is not None}
        return _moved(node, sources, known) if len(known) == len(values) else None
    may_be_zero = [any(source in masked for source in sources[arg]) for arg in inputs_of(node)]
    if (packet in POSITIONWISE and not node.target._schema.is_mutable) or elementwise(node, may_be_zero):
        return _combined(sources, node.meta["val"].shape)
    return None


def _moved(node: Any, sources: Mapping[Node, Elements], values: Mapping[Node, Tensor]) -> Elements:
    """Applies the operation to the indices."""
    target = torch.ops.aten.reshape.default if node.target is torch.ops.aten.view.default else node.target

    def moved(source: Node) -> Tensor:
        def indices(arg: Node) -> Tensor:
            elements = {source: values[arg]} if arg in values else sources.get(arg, {})
            return elements[source] if source in elements else torch.full(arg.meta["val"].shape, -1)

        return thin(target(*map_arg(node.args, indices), **map_arg(node.kwargs, indices)))

    return {source: moved(source) for arg, elements in sources.items() if arg not in values for source in elements}


def _combined(sources: Mapping[Node, Elements], shape: torch.Size) -> Elements | None:
    combined: dict[Node, Tensor] = {}
    for elements in sources.values():
        for source, indices in elements.items():
            wide = indices.expand(shape)
            if not torch.equal(combined.setdefault(source, wide), wide):
                return None
    return combined


def along_line(indices: Tensor, channels: Tensor, line: int, shape: torch.Size) -> tuple[int, Tensor, Tensor] | None:
    """Where a tensor of `shape` must be cut so that what is made of it loses what it meets along the axis `line`.

    `indices` are those of its elements, `channels` the ids along `line`. Returns the axis, and for each of a number of
    pairs the index along it and the channel; None where it cannot be cut so. No pairs: it is broadcast along `line`.
    """
    present = thin(indices >= 0)
    parted = varying(present)
    if len(parted) > 1:
        return None
    if not parted and not present.flatten()[:1].any():  # the source is not in it
        return 0, channels[:0], channels[:0]
    for axis in parted:  # parts were concatenated along it
        some = present.movedim(axis, 0).reshape(present.shape[axis], -1)[:, 0].nonzero().flatten()
        indices = indices.index_select(axis, some)
        channels = channels[some] if axis == line else channels
    coordinates = [thin(c) for c in torch.unravel_index(indices, shape)]
    axes = [axis for axis, coordinate in enumerate(coordinates) if line in varying(coordinate)]
    if not axes and line not in parted:
        return 0, channels[:0], channels[:0]
    if len(axes) != 1 or (index := channels_of(coordinates[axes[0]], line)) is None:
        return None
    return axes[0], index, channels
