"""Magnitude of a weight, or p-norm of a filter (Han et al. 2015; Li et al. 2017)."""

from dataclasses import dataclass

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.types import Scores


@dataclass(frozen=True)
class Norm(Criterion):
    """|w|^p; summed over a unit it is the p-norm to the power p, which ranks as the norm does."""

    p: int = 1

    def __call__(self, ctx: Context) -> Scores:
        return {name: w.detach().abs().pow(self.p) for name, w in ctx.params.items()}
