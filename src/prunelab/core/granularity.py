"""Granularities: what one unit of pruning is."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from prunelab.core.network.filters import as_weight, by_filter, transposed_groups
from prunelab.core.numbers.selection import refuse_nan
from prunelab.core.types import Example, Masks, Scores

log = logging.getLogger(__name__)
Structure = tuple[tuple[str, int], ...]  # sorted: a type of layers, and the axis along which units lie in one of them


class Layout(NamedTuple):
    """How many channels units have on each axis of the parameters, from which costs are computed.

    Two units of one kind have the same number of channels on every axis.
    """

    kinds: dict[str, Tensor]  # the kind of each unit of a group: (units,), or () if all are of one kind
    whole: Tensor  # (kinds,): how many units there are
    names: list[str]  # (axes,): the parameter that each axis belongs to
    per: Tensor  # (axes, kinds): channels that one unit has there
    fixed: Tensor  # (axes,): channels of no unit


class Granularity(ABC):
    """Sums the scores of weights into units, and expands the masks of units to all that belongs to them."""

    single_weights: ClassVar[bool] = False  # whether a unit is one weight
    in_groups: ClassVar[bool] = False  # whether units belong to N:M groups, which a shuffle would break
    of_channels: ClassVar[bool] = False  # whether a unit is a channel, with all that is coupled to it
    whole_layers: ClassVar[bool] = False  # whether a unit is made of whole layers

    @abstractmethod
    def bind(self, net: nn.Module, params: Mapping[str, Tensor], example: Example | None) -> Self:
        """This granularity for one network and its prunable `params`. Raises ValueError if there is no unit."""

    def check(self, rate: float) -> None:  # noqa: B027
        """Raises ValueError for a rate that units of this kind cannot meet."""

    @abstractmethod
    def reduce(self, scores: Scores) -> Scores:
        """One score per unit, for every parameter that has units of this kind."""

    @abstractmethod
    def expand(self, keep: Masks) -> Masks:
        """Masks in the shapes of the parameters, for every parameter that a unit covers."""

    @property
    def norms(self) -> Mapping[str, int]:
        """Norms over channels of units, by the name of their scale -> the axis of channels in their input."""
        return {}

    def structures(self, net: nn.Module) -> Mapping[str, Structure]:
        """The structure of each group: equal for groups whose units lie alike in layers of the same types."""
        modules = {name: net.get_submodule(name.rpartition(".")[0]) for name, _ in net.named_parameters()}
        return {name: ((type(module).__name__, 0),) for name, module in modules.items()}

    def layout(self, net: nn.Module) -> Layout:
        """The channels of the units in `net`. Raises ValueError for units that have no cost of their own."""
        raise ValueError(f"units of {type(self).__name__} have no cost of their own: use budget=units")


@dataclass(frozen=True)
class Weight(Granularity):
    """Single weights."""

    single_weights: ClassVar[bool] = True

    def bind(self, net: nn.Module, params: Mapping[str, Tensor], example: Example | None) -> Self:
        return self

    def reduce(self, scores: Scores) -> Scores:
        return scores

    def expand(self, keep: Masks) -> Masks:
        return keep

    def layout(self, net: nn.Module) -> Layout:
        whole = torch.tensor([p.numel() for p in net.parameters()], dtype=torch.float64)
        names = [name for name, _ in net.named_parameters()]
        kinds = {name: torch.tensor(i) for i, name in enumerate(names)}
        return Layout(kinds, whole, names, torch.eye(len(names), dtype=torch.float64), torch.zeros_like(whole))


@dataclass(frozen=True)
class NM(Granularity):
    """Single weights, N of every `m` neighbours along the input dimension removed (Zhou et al. 2021).

    N follows from the rate: 0.5 with m=4 is 2:4. A weight's score is its rank among its m, so an even allocation
    removes the same number from every group. Layers whose inputs are not a multiple of m stay dense and are
    named in the log, or are an error with `indivisible="refuse"`.
    """

    single_weights: ClassVar[bool] = True
    in_groups: ClassVar[bool] = True
    m: int = 4
    indivisible: str = "dense"
    names: tuple[str, ...] = ()  # the layers that have groups
    transposed: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)  # as `transposed_groups`

    def bind(self, net: nn.Module, params: Mapping[str, Tensor], example: Example | None) -> Self:
        if self.m < 2 or self.indivisible not in ("dense", "refuse"):
            raise ValueError(f"m={self.m}, indivisible={self.indivisible!r}: expected m >= 2 and 'dense' or 'refuse'")
        transposed = transposed_groups(net)
        inputs = {name: by_filter(w, transposed.get(name)).shape[2] for name, w in params.items()}
        indivisible = {name: count for name, count in inputs.items() if count % self.m}
        layers = ", ".join(f"{name} ({count} inputs)" for name, count in indivisible.items())
        if indivisible and (self.indivisible == "refuse" or len(indivisible) == len(params)):
            raise ValueError(
                f"groups of m={self.m} do not divide the inputs of {layers}: skip them, or choose another m"
            )
        if indivisible:
            log.warning("left dense, their inputs are no multiple of m=%d: %s", self.m, layers)
        return replace(self, names=tuple(name for name in params if name not in indivisible), transposed=transposed)

    def check(self, rate: float) -> None:
        if abs(rate * self.m - round(rate * self.m)) > 1e-9:
            rates = ", ".join(f"{i / self.m:g}" for i in range(1, self.m))
            raise ValueError(f"rate={rate}: groups of m={self.m} weights allow {rates}")

    def reduce(self, scores: Scores) -> Scores:
        refuse_nan({name: scores[name] for name in self.names})  # ranks would hide them
        return {name: self._ranks(scores[name], self.transposed.get(name)) for name in self.names}

    def _ranks(self, score: Tensor, transposed: int | None) -> Tensor:
        """m - 1 for the best of its group, 0 for the worst; of equals the first ranks higher; -inf stays -inf."""
        inputs_last = by_filter(score, transposed).movedim(2, -1)  # (groups, out, [k, k,] in)
        neighbours = inputs_last.reshape(-1, self.m)
        order = neighbours.argsort(dim=1, descending=True, stable=True)
        best_first = torch.arange(self.m - 1, -1, -1, device=score.device, dtype=torch.float32)
        among = torch.empty_like(neighbours, dtype=torch.float32)
        among.scatter_(1, order, best_first.expand(neighbours.shape))
        among.masked_fill_(neighbours == -torch.inf, -torch.inf)
        return as_weight(among.view(inputs_last.shape).movedim(-1, 2), transposed)

    def expand(self, keep: Masks) -> Masks:
        return keep
