"""Learned scaling factors of units (Huang & Wang 2018)."""

from dataclasses import dataclass
from typing import ClassVar

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.types import Scores


@dataclass(frozen=True)
class Factor(Criterion):
    """The unit's factor, trained by the callback ScalingFactors. Raises ValueError without that callback."""

    of_channels: ClassVar[bool] = True
    of_units: ClassVar[bool] = True

    def __call__(self, ctx: Context) -> Scores:
        if not ctx.memory:
            raise ValueError(
                "no scaling factors: this criterion needs the callback ScalingFactors, listed before Pruning, "
                "as in prune=dsss; or choose another, as prune/criterion=l2"
            )
        return dict(ctx.memory)
