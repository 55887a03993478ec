"""Mean square of the weights of a filter, to compare filters of unequal size."""

from dataclasses import dataclass

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.types import Scores


@dataclass(frozen=True)
class MeanSquare(Criterion):
    """|w|^2 over the number of weights in a row of its layer, so that a filter's sum is the mean square of its weights.

    Group lasso pulls this mean down alike in small and large filters (Yuan & Lin 2006). A sum grows with the size:
    under one threshold for all layers it lets the smallest filters go first.
    """

    def __call__(self, ctx: Context) -> Scores:
        return {name: w.detach().square() / w[0].numel() for name, w in ctx.params.items()}
