"""Movement: how far training has pushed a weight away from zero (Sanh et al. 2020)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.types import Scores


@dataclass(frozen=True)
class Movement(Criterion):
    """-w * dL/dw, summed over all steps so far (eq. 4). Raises ValueError before the first step.

    Unlike in the paper, a pruned weight stays pruned and its sum constant.
    """

    watches: ClassVar[bool] = True

    def watch(self, params: Mapping[str, Tensor], memory: Scores) -> None:
        for name, w in params.items():
            if w.grad is not None:
                memory.setdefault(name, torch.zeros_like(w, requires_grad=False)).addcmul_(w.detach(), w.grad, value=-1)

    def __call__(self, ctx: Context) -> Scores:
        if not ctx.memory:
            raise ValueError("Movement has watched no step of training yet: prune later")
        return {name: ctx.memory.get(name, torch.zeros_like(w)) for name, w in ctx.params.items()}
