"""A granularity and two allocations that no source file knows by name, for tests of capabilities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from prunelab.core.allocation import Allocation
from prunelab.core.granularity import Granularity
from prunelab.core.numbers.selection import keep_top
from prunelab.core.types import Example, Masks, Scores


@dataclass(frozen=True)
class Even(Allocation):
    """The same rate in every layer."""

    by_layer: ClassVar[bool] = True
    even: ClassVar[bool] = True

    def __call__(self, units: Scores, rate: float) -> Masks:
        return {name: keep_top(score, score.numel() - round(rate * score.numel())) for name, score in units.items()}


@dataclass(frozen=True)
class Positive(Allocation):
    """Keeps what scores above 0, at any rate."""

    own_rates: ClassVar[bool] = True

    def __call__(self, units: Scores, rate: float) -> Masks:
        return {name: score > 0 for name, score in units.items()}


@dataclass(frozen=True)
class Pairs(Granularity):
    """Single weights of linear layers, one of each pair of neighbours along the inputs."""

    single_weights: ClassVar[bool] = True
    in_groups: ClassVar[bool] = True

    def bind(self, net: nn.Module, params: Mapping[str, Tensor], example: Example | None) -> Self:
        return self

    def check(self, rate: float) -> None:
        if rate not in (0, 0.5):
            raise ValueError(f"rate={rate}: pairs allow 0.5")

    def reduce(self, scores: Scores) -> Scores:
        """1 for the larger of a pair, 0 for the other; of equals the first is the larger."""
        pairs = {name: score.unflatten(1, (-1, 2)) for name, score in scores.items() if score.dim() == 2}
        first = {name: pair[..., 0] >= pair[..., 1] for name, pair in pairs.items()}
        return {name: torch.stack([left, ~left], -1).flatten(1).float() for name, left in first.items()}

    def expand(self, keep: Masks) -> Masks:
        return keep
