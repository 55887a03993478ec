"""Taylor: first-order change of the loss without a weight (Molchanov et al. 2019; SNIP, Lee et al. 2019)."""

from dataclasses import dataclass

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.types import Scores


@dataclass(frozen=True)
class Taylor(Criterion):
    """|w * dL/dw|, the change to first order, on `batches` of training data."""

    batches: int = 1

    def __call__(self, ctx: Context) -> Scores:
        slopes = ctx.gradients(ctx.batches(self.batches))
        return {name: (w.detach() * slopes[name]).abs() for name, w in ctx.params.items()}
