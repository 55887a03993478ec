"""What criteria keep while they watch training."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from prunelab.core.criterion import Criterion
from prunelab.core.types import Scores


class Memory:
    """`kept` by the criteria of one pruner; a step that does not happen, as of gradients that overflow, leaves none."""

    def __init__(self, kept: Scores | None = None) -> None:
        self.kept: Scores = kept or {}
        self._next: Scores | None = None  # after the step that was watched, if it happens

    def watch(self, criteria: Iterable[Criterion], params: Mapping[str, Tensor]) -> None:
        """Passes weights and gradients to those that watch training, before a step."""
        self._next = {name: kept.clone() for name, kept in self.kept.items()}
        for criterion in criteria:
            if criterion.watches:
                criterion.watch(params, self._next)

    def stepped(self) -> None:
        """After the step."""
        if self._next is not None:
            self.kept, self._next = self._next, None
