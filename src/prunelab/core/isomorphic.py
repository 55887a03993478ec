"""Isomorphic pruning (Fang et al. 2024): scores are compared only between units of like structure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from torch import nn

from prunelab.core.allocation import Allocation, Global, MasksAt
from prunelab.core.granularity import Granularity, Structure
from prunelab.core.types import Masks, Scores


@dataclass(frozen=True)
class Isomorphic(Allocation):
    """One threshold for each class of groups that have the same structure: `round(rate * n)` of the class's n units."""

    even: ClassVar[bool] = True
    structures: Mapping[str, Structure] = field(default_factory=dict, repr=False, compare=False)  # by group

    def bind(self, net: nn.Module, granularity: Granularity) -> Self:
        return replace(self, structures=granularity.structures(net))

    def __call__(self, units: Scores, rate: float) -> Masks:
        return self.masks_at(units)(rate)

    def masks_at(self, units: Scores) -> MasksAt:
        classes: dict[Structure, Scores] = {}
        for name, score in units.items():
            classes.setdefault(self.structures.get(name, ()), {})[name] = score
        within = [Global().masks_at(alike) for alike in classes.values()]

        def masks(rate: float) -> Masks:
            keep = {name: kept for masks_at in within for name, kept in masks_at(rate).items()}
            return {name: keep[name] for name in units}

        return masks
