"""How much does each weight matter?"""

from abc import ABC, abstractmethod

from prunelab.core.types import Context, Scores


class Criterion(ABC):
    """Scores weights; larger = keep. Where units are larger than a weight, a unit's score is the sum of theirs."""

    @abstractmethod
    def __call__(self, ctx: Context) -> Scores:
        """One score per weight, in the shape of its parameter, for every name in `ctx.params`."""
