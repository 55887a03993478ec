"""Scores by the criteria of a pruner, with what these keep while they watch training."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.types import Scores


class Scoring:
    """`memory` is what the `criteria` keep; a step that does not happen, as of gradients that overflow, leaves none.

    `context` is that of the attached network.
    """

    def __init__(self, criteria: Sequence[Criterion]) -> None:
        self.criteria = criteria
        self.context: Context | None = None
        self.remember({})

    def __call__(self, criterion: Criterion) -> Scores:
        assert self.context is not None
        with torch.no_grad():
            return criterion(replace(self.context, memory=self.memory))

    def remember(self, scores: Scores) -> None:
        """In place of all that was kept."""
        self.memory: Scores = scores
        self._next: Scores | None = None  # after the step that was watched, if it happens

    def watch(self, params: Mapping[str, Tensor]) -> None:
        """Passes weights and gradients to those that watch training, before a step."""
        self._next = {name: kept.clone() for name, kept in self.memory.items()}
        for criterion in self.criteria:
            if criterion.watches:
                criterion.watch(params, self._next)

    def stepped(self) -> None:
        """After the step."""
        if self._next is not None:
            self.memory, self._next = self._next, None
