"""GraSP: how much a weight helps the gradient to flow (Wang et al. 2020)."""

from dataclasses import dataclass

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.types import Scores


@dataclass(frozen=True)
class GraSP(Criterion):
    """w * Hg: half the first-order loss in the squared norm of the gradient without the weight.

    The negative of the paper's eq. 8, where small is kept. Outputs are divided by `temperature`, as in the
    authors' code, so that all classes count at initialisation.
    """

    batches: int = 1
    temperature: float = 200.0

    def __call__(self, ctx: Context) -> Scores:
        batches = ctx.batches(self.batches)
        slopes = ctx.gradients(batches, self.temperature)
        curvature = ctx.curvature(slopes, batches, self.temperature)
        return {name: w.detach() * curvature[name] for name, w in ctx.params.items()}
