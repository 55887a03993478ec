"""Of what is a rate the fraction, where it does not count units?"""

from typing import Protocol, Self

from torch import nn

from prunelab.core.allocation import Allocation
from prunelab.core.granularity import Granularity
from prunelab.core.types import Example, Masks, Scores


class Budget(Protocol):
    """Asks an allocation for as many units as come to a fraction of something (channels/budget.py)."""

    def bind(self, net: nn.Module, granularity: Granularity, example: Example | None) -> Self:
        """This budget for one net and a granularity that is bound to it."""

    def __call__(self, allocation: Allocation, units: Scores, rate: float) -> Masks:
        """Bool masks in the shapes of `units` that take `rate` away. Raises ValueError where that cannot be met."""

    def attained(self, keep: Masks) -> float:
        """The fraction that is gone without the units that are False in `keep`."""
