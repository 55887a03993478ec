"""FPGM: distance of a filter to the others of its layer (He et al. 2019)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.network.filters import as_weight, by_filter, transposed_groups
from prunelab.core.numbers.float64 import double
from prunelab.core.types import Scores


@dataclass(frozen=True)
class FPGM(Criterion):
    """The sum of a filter's Euclidean distances to all others of its layer (arXiv:1811.00250, eq. 6).

    A row of a linear layer is a filter. The sum is spread evenly over the filter's weights. Filters that are all
    zero count as removed, so a masked layer scores as the smaller one would.
    """

    def __call__(self, ctx: Context) -> Scores:
        transposed = transposed_groups(ctx.net)
        return {name: _scores(w.detach(), transposed.get(name)) for name, w in ctx.params.items()}


def _scores(weight: Tensor, transposed: int | None) -> Tensor:
    filters = by_filter(weight, transposed)
    share = _distances(filters.flatten(0, 1).flatten(1)) / filters[0, 0].numel()
    each = share.view(*filters.shape[:2], *[1] * (filters.dim() - 2)).expand(filters.shape)
    return as_weight(each, transposed)


def _distances(filters: Tensor) -> Tensor:
    """(out, weights) -> (out,), in float64: in float32 cdist loses the distance between similar filters."""
    wide = double(filters)
    alive = wide.any(1)
    return torch.cdist(wide, wide[alive]).sum(1)
