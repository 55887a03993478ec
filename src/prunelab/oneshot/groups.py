"""The units of a network and what is coupled to them, before anything is cut."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import RenderableType
from torch import Tensor, nn

from prunelab.channels.reasons import stays
from prunelab.channels.units import PrunableStructure, prunable_structure
from prunelab.core.granularity import Granularity
from prunelab.core.network.compiled import plain
from prunelab.core.network.prunable import layer_weights, prunable_weights
from prunelab.core.types import Example
from prunelab.measure.terminal_table import shown, terminal_table
from prunelab.oneshot.batches import check_example
from prunelab.oneshot.parts import by_part, part
from prunelab.oneshot.report import printed, stays_because


@dataclass(frozen=True)
class UnitGroup:
    """Units that lie in the same tensors; each can be removed alone, with all that is coupled to it."""

    name: str  # of the first weight that makes them; a pattern for `skip`
    units: int
    makers: tuple[str, ...]  # the weights that make them, which lose them together
    readers: tuple[str, ...]  # the weights whose inputs they are
    others: tuple[str, ...]  # biases, norms, and what else is cut with them


@dataclass(frozen=True)
class UnitGroups:
    """A sequence of groups; `print` shows them as a table."""

    groups: tuple[UnitGroup, ...]
    stays: Mapping[str, str]  # weights that keep their own channels, or some of them -> why

    def __iter__(self) -> Iterator[UnitGroup]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> UnitGroup:
        return self.groups[index]

    def __str__(self) -> str:
        return printed(self._parts())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))  # the end of a notebook's cell

    def _parts(self) -> Iterable[RenderableType]:
        columns = ["group", "units", "made by", "read by"]
        table = terminal_table(columns, words=("group", "made by", "read by"), two_lines=False)
        for group in self.groups:
            table.add_row(
                shown(group.name), str(group.units), shown(_shortened(group.makers)), shown(_shortened(group.readers))
            )
        yield table
        yield from stays_because(self.stays)


def groups(
    net: nn.Module,
    example: Example,
    *,
    granularity: str | Granularity = "filter",
    skip: Sequence[str] = (),
    **options: object,
) -> UnitGroups:
    """What `prune` with the same arguments would choose from; `net` is not changed.

    A group stays whole if `skip` has a pattern of any of its makers: its name, as shown, is one. Raises ValueError as
    `prune` does.
    """
    net = plain(net)
    check_example(net, example)
    chosen = part("granularity", granularity, by_part(options).get("granularity", {}), rate=0.0)
    structure = prunable_structure(chosen.bind(net, prunable_weights(net, skip), example))
    if structure is None:
        raise ValueError(f"granularity={granularity!r}: single weights are not coupled; use 'channels'")
    layers = layer_weights(net)
    found = tuple(_group(name, numbers, structure, layers) for name, numbers in structure.numbers.items())
    return UnitGroups(found, stays(net, structure, skip))


def _group(name: str, numbers: Tensor, units: PrunableStructure, layers: Mapping[str, nn.Parameter]) -> UnitGroup:
    touched = [place for place, unit in units.places.items() if torch.isin(unit, numbers).any()]
    makers = tuple(place[0] for place in touched if units.makes(place) and place[0] in units.makers)
    readers = tuple(place[0] for place in touched if not units.makes(place) and place[0] in layers)
    others = tuple(dict.fromkeys(tensor for tensor, _ in touched if tensor not in layers))
    members = tuple(tensor for tensor in units.members if tensor in layers)
    return UnitGroup(name, len(numbers), makers or members, readers, others)


def _shortened(names: Sequence[str], most: int = 4) -> str:
    left = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*(name.removesuffix(".weight") for name in names[:most]), *left])
