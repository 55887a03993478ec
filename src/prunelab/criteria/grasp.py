"""GraSP: does the weight help the gradient to flow? (Wang et al. 2020)"""

from dataclasses import dataclass

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.types import Scores


@dataclass(frozen=True)
class GraSP(Criterion):
    """w * Hg: what the squared norm of the gradient would lose, to first order and halved, without the weight.

    The negative of the paper's eq. 8, where small is kept. Outputs are divided by `temperature`, as in the
    authors' code, so that all classes have a say at initialisation.
    """

    batches: int = 1
    temperature: float = 200.0

    def __call__(self, ctx: Context) -> Scores:
        batches = ctx.batches(self.batches)
        slopes = ctx.gradients(batches, self.temperature)
        bent = ctx.curvature(slopes, batches, self.temperature)
        return {name: w.detach() * bent[name] for name, w in ctx.params.items()}
