"""Penalties: what pulls parameters towards zero during training."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from prunelab.core.granularity import Granularity


@dataclass(frozen=True)
class Reach:
    """How far a pull of gamma=1 would move a parameter that nothing else moves, in the steps until it ends."""

    steps: int
    proximal: float  # of proximal steps: the sum of the learning rates
    gradient: float | None  # of a term of the loss: the same / (1 - momentum); None for optimizers that normalise it
    unknown: str = ""  # why the learning rates to come cannot be told; the two numbers are 0 then

    def gamma(self, travel: float, per_gamma: float) -> float:
        """The gamma that moves it by `travel`, where 1 moves it by `per_gamma`. Raises ValueError where unknown."""
        if self.unknown:
            raise ValueError(f"gamma follows from the learning rates to come, and {self.unknown}: give a gamma")
        return travel / per_gamma


@dataclass(frozen=True)
class Travel:
    """How far a penalty moves a group that nothing else moves, and how far the nearest is from 0."""

    gamma: float
    distance: float
    nearest: float


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

    def planned(self, reach: Reach) -> Self:
        """This penalty for a training of that reach; called before `bind`."""
        return self

    def begin(self) -> None:  # noqa: B027
        """Prepares the bound network before its first step; not called on a resume."""

    def travel_over(self, reach: Reach) -> Travel | None:
        """What is known of it before the first step, once bound."""
        return None

    def before_step(self) -> None:  # noqa: B027
        """Adds its gradient to `.grad`."""

    def after_step(self, rates: Mapping[str, float]) -> None:  # noqa: B027
        """The proximal step, given the learning rate of each of `params` in the optimizer step just taken."""

    @abstractmethod
    def zeros(self) -> Tensor:
        """Whether each group is exactly 0: (groups,), bool."""
