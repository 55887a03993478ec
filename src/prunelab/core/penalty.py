"""Penalties: what pulls parameters towards zero during training."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

from torch import Tensor, nn

from prunelab.core.granularity import Granularity


class Penalty(ABC):
    """Pulls groups of parameters towards zero, before or after each optimizer step.

    A term of the loss adds its gradient before the step; a proximal operator follows it and makes exact zeros.
    """

    @abstractmethod
    def bind(self, net: nn.Module, granularity: Granularity) -> Self:
        """This penalty for one network and the units of its bound `granularity`; leaves the network unchanged.

        Raises ValueError where there is nothing to penalise.
        """

    @property
    @abstractmethod
    def params(self) -> Mapping[str, nn.Parameter]:
        """The parameters it changes, in whole or in part."""

    def before_step(self) -> None:  # noqa: B027
        """Adds its gradient to `.grad`."""

    def after_step(self, rates: Mapping[str, float]) -> None:  # noqa: B027
        """The proximal step, given the learning rate of each of `params` in the optimizer step just taken."""

    @abstractmethod
    def zeros(self) -> Tensor:
        """Whether each group is exactly 0: (groups,), bool."""
