"""What pulls towards zero while a net trains?"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

from torch import Tensor, nn

from prunelab.core.granularity import Granularity


class Penalty(ABC):
    """Pulls groups of parameters to zero, at two moments around each optimizer step.

    A term of the loss is a gradient before the step; a proximal operator comes after it, and makes exact zeros.
    """

    @abstractmethod
    def bind(self, net: nn.Module, granularity: Granularity) -> Self:
        """This penalty for one net and the units that its bound `granularity` has; changes nothing in the net.

        Raises ValueError where it finds nothing to pull at.
        """

    @property
    @abstractmethod
    def params(self) -> Mapping[str, nn.Parameter]:
        """The parameters that it pulls at, in whole or in part."""

    def before_step(self) -> None:  # noqa: B027
        """Adds its gradient to `.grad`."""

    def after_step(self, rates: Mapping[str, float]) -> None:  # noqa: B027
        """Takes its proximal step, given the learning rate of each of `params` in the step just done."""

    @abstractmethod
    def zeros(self) -> Tensor:
        """For each group whether all of it is exactly 0: (groups,), bool."""
