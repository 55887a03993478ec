"""FPGM: distance of a filter to the others of its layer (He et al. 2019)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.numbers.float64 import double
from prunelab.core.types import Scores


@dataclass(frozen=True)
class FPGM(Criterion):
    """The sum of a filter's Euclidean distances to all others of its layer (arXiv:1811.00250, eq. 6).

    A row of a linear layer is a filter. The sum is spread evenly over the filter's weights. Filters that are all
    zero count as removed, so a masked layer scores as the smaller one would.
    """

    def __call__(self, ctx: Context) -> Scores:
        return {name: _spread(_distances(w.detach().flatten(1)), w) for name, w in ctx.params.items()}


def _distances(filters: Tensor) -> Tensor:
    """(out, weights) -> (out,), in float64: in float32 cdist loses the distance between similar filters."""
    wide = double(filters)
    alive = wide.any(1)
    return torch.cdist(wide, wide[alive]).sum(1)


def _spread(scores: Tensor, like: Tensor) -> Tensor:
    share = scores / like[0].numel()
    return share.view(-1, *[1] * (like.dim() - 1)).expand(like.shape)
