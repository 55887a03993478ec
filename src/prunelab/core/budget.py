"""What a rate may be a fraction of, besides units."""

from collections.abc import Mapping
from typing import Any, Protocol, Self

from torch import nn

from prunelab.core.allocation import Allocation
from prunelab.core.granularity import Granularity
from prunelab.core.types import Example, Masks, Scores


class Budget(Protocol):
    """Protocol for rates measured in a resource (MACs, parameters, latency) instead of units (channels/budget.py)."""

    def bind(self, net: nn.Module, granularity: Granularity, example: Example | None) -> Self:
        """This budget for one network and a granularity that is bound to it."""

    def __call__(self, allocation: Allocation, units: Scores, rate: float, last: bool = True) -> Masks:
        """Bool masks in the shapes of `units` that remove `rate` of the resource. Raises ValueError if none do.

        `last`: no pruning follows.
        """

    def dry_run(self, allocation: Allocation, units: Scores, rate: float, timed: bool) -> Masks:
        """Masks like those of a call, whose ValueErrors it raises; nothing is measured unless `timed`."""

    def attained(self, keep: Masks) -> float:
        """The fraction of the resource removed with the units that are False in `keep`."""

    def unmeasured(self, rate: float) -> bool:
        """Whether something is still to be measured for it, on networks that are cut by the scores."""

    def state_dict(self) -> dict[str, Any]:
        """What was measured, so that later prunings and resumed runs decide by the same numbers; else empty."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes a saved state; an empty one changes nothing."""

    def rounded(self, allocation: Allocation, units: Scores, rate: float, keep: Masks) -> dict[str, tuple[int, int]]:
        """Where widths are rounded: the units of a group that would be left without it, and those in `keep`."""
