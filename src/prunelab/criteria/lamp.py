"""LAMP: magnitude that compares between layers (Lee et al. 2021)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.numbers.float64 import double
from prunelab.core.types import Scores


@dataclass(frozen=True)
class LAMP(Criterion):
    """w^2 over the sum of squares of all weights of the layer that are no smaller (eq. 5), for a global threshold.

    The largest weight of every layer scores 1, so no layer is emptied. Of equals the first scores highest.
    """

    def __call__(self, ctx: Context) -> Scores:
        return {name: _lamp(w.detach()) for name, w in ctx.params.items()}


def _lamp(w: Tensor) -> Tensor:
    squares = double(w.reshape(-1)).square()  # summed up over millions of weights
    order = squares.argsort(descending=True, stable=True)
    ranked = squares[order]
    scores = torch.empty_like(squares)
    scores[order] = ranked / ranked.cumsum(0).clamp(min=torch.finfo(torch.float64).tiny)
    return scores.view(w.shape)
