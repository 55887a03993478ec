"""Wanda: magnitude times the norm of the weight's input (Sun et al. 2023)."""

from dataclasses import dataclass

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.types import Scores


@dataclass(frozen=True)
class Wanda(Criterion):
    """|w| * ||x||, x the weight's input channel on `batches` of training data (arXiv:2306.11695, eq. 1).

    The paper compares the weights of each output; here the allocation decides, per layer or globally.
    """

    batches: int = 1

    def __call__(self, ctx: Context) -> Scores:
        norms = ctx.input_norms(ctx.batches(self.batches))
        return {name: w.detach().abs() * norms[name] for name, w in ctx.params.items()}
