"""Random scores: the control that any criterion must beat."""

from dataclasses import dataclass

import torch

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.types import Scores


@dataclass(frozen=True)
class Random(Criterion):
    """Uniform in [0, 1), drawn on the CPU from the pruner's own stream."""

    def __call__(self, ctx: Context) -> Scores:
        return {name: torch.rand(w.shape, generator=ctx.generator).to(w.device) for name, w in ctx.params.items()}
