"""What is one unit of pruning?"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn

from prunelab.core.partners import Example, filter_partners
from prunelab.core.types import Masks, Scores


class Granularity(ABC):
    """Sums the scores of weights into units, and spreads the verdict on a unit over all that belongs to it."""

    @abstractmethod
    def bind(self, net: nn.Module, params: Mapping[str, Tensor], example: Example | None) -> Self:
        """This granularity for one net and its prunable `params`. Raises ValueError where it finds no unit."""

    @abstractmethod
    def reduce(self, scores: Scores) -> Scores:
        """One score per unit, for every parameter that has units of this kind."""

    @abstractmethod
    def expand(self, keep: Masks) -> Masks:
        """Masks in the shapes of the parameters, for every parameter that a unit covers."""


@dataclass(frozen=True)
class Weight(Granularity):
    """Single weights."""

    def bind(self, net: nn.Module, params: Mapping[str, Tensor], example: Example | None) -> Self:
        return self

    def reduce(self, scores: Scores) -> Scores:
        return scores

    def expand(self, keep: Masks) -> Masks:
        return keep


@dataclass(frozen=True)
class Filter(Granularity):
    """Output filters of convolutions, with their bias and the scale and shift of the norm behind them."""

    shapes: Mapping[str, torch.Size] = field(default_factory=dict)  # of the convolutions' weights
    partners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def bind(self, net: nn.Module, params: Mapping[str, Tensor], example: Example | None) -> Self:
        partners = filter_partners(net, params, example)
        if not partners:
            raise ValueError(f"{type(net).__name__}: no filters to prune, it has no prunable convolution")
        return type(self)({name: params[name].shape for name in partners}, partners)

    def reduce(self, scores: Scores) -> Scores:
        return {name: scores[name].flatten(1).sum(1) for name in self.shapes}  # (out, in, k, k) -> (out,)

    def expand(self, keep: Masks) -> Masks:
        masks: Masks = {}
        for name, kept in keep.items():
            shape = self.shapes[name]
            masks[name] = kept.view(-1, *[1] * (len(shape) - 1)).expand(shape).clone()
            for partner in self.partners[name]:  # a norm that serves two convolutions lives while either does
                masks[partner] = masks[partner] | kept if partner in masks else kept.clone()
        return masks
