"""Criteria: how much each weight matters."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from prunelab.core.context import Context
from prunelab.core.types import Scores


class Criterion(ABC):
    """Scores weights; larger = keep. A unit of several weights scores the sum of theirs."""

    watches: ClassVar[bool] = False  # whether `watch` is called in training
    of_channels: ClassVar[bool] = False  # whether it scores channels and no single weights
    of_units: ClassVar[bool] = False  # whether it scores units by group instead of weights by parameter
    batches: int = 0  # of training data for one scoring

    @abstractmethod
    def __call__(self, ctx: Context) -> Scores:
        """One score per weight, in the shape of its parameter, for every name in `ctx.params`."""

    def watch(self, params: Mapping[str, Tensor], memory: Scores) -> None:  # noqa: B027
        """Called with the weights and their `.grad` before each optimizer step; may keep tensors in `memory`.

        The pruner owns and saves the memory, and passes it back as `ctx.memory`; if the step does not happen, it
        forgets what was kept.
        """
