"""Magnitude of the gradient, which pruned weights have too (RigL, Evci et al. 2020)."""

from dataclasses import dataclass

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.types import Scores


@dataclass(frozen=True)
class Gradient(Criterion):
    """|dL/dw| on `batches` of training data."""

    batches: int = 1

    def __call__(self, ctx: Context) -> Scores:
        return {name: slope.abs() for name, slope in ctx.gradients(ctx.batches(self.batches)).items()}
