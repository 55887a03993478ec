"""How much does each weight matter?"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from prunelab.core.context import Context
from prunelab.core.types import Scores


class Criterion(ABC):
    """Scores weights; larger = keep. Where units are larger than a weight, a unit's score is the sum of theirs."""

    watches: ClassVar[bool] = False  # whether `watch` is to be called
    of_channels: ClassVar[bool] = False  # whether it has nothing to say of a single weight
    of_units: ClassVar[bool] = False  # whether it scores units by group, and not weights by parameter
    batches: int = 0  # of training data that one scoring looks at

    @abstractmethod
    def __call__(self, ctx: Context) -> Scores:
        """One score per weight, in the shape of its parameter, for every name in `ctx.params`."""

    def watch(self, params: Mapping[str, Tensor], memory: Scores) -> None:  # noqa: B027
        """Sees weights with their `.grad` before each optimizer step; may keep tensors by name in `memory`.

        The pruner owns the memory, saves it, and hands it back as `ctx.memory`.
        """
