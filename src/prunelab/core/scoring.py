"""Scores by the criteria of a pruner, with what these keep while they watch training."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from prunelab.core.context import Batch, Context
from prunelab.core.criterion import Criterion
from prunelab.core.distributed import rank
from prunelab.core.network.preserve import preserve_state
from prunelab.core.types import Masks, Scores

log = logging.getLogger(__name__)


class Scoring:
    """`memory` is what the `criteria` keep; a step that does not happen, as of gradients that overflow, leaves none.

    `context` is that of the attached network.
    """

    def __init__(self, criteria: Sequence[Criterion]) -> None:
        self.criteria = criteria
        self.context: Context | None = None
        self._told = False  # that all scores are 0
        self.remember({})

    def __call__(self, criterion: Criterion) -> Scores:
        """Scores of now. Raises ValueError, naming the criterion, for what is not one score a weight."""
        scores = self._score(criterion)
        if criterion.batches and not self._told and not torch.stack([s.any() for s in scores.values()]).any():
            self._told = True
            if rank() == 0:
                log.warning(
                    "%s: all scores are 0, so weights go by their position: the loss has no gradient here; give the "
                    "network's own loss=", type(criterion).__name__,
                )  # fmt: skip
        return scores

    def check(self, batch: Batch | None) -> None:
        """Raises ValueError where scores cannot be computed on `batch`, None: without data. Leaves no trace."""
        assert self.context is not None
        slopes = any(p.requires_grad for p in self.context.params.values())
        for criterion in self.criteria:
            if criterion.watches or (criterion.batches and (batch is None or not slopes)):
                continue  # what it needs is not there yet
            with preserve_state(self.context.net, training=True):
                draw = lambda count, _: [batch]  # noqa: E731
                self._score(criterion, generator=torch.Generator().manual_seed(0), draw=draw)

    def _score(self, criterion: Criterion, **changed: Any) -> Scores:
        if self.context is None:
            raise ValueError("no network to score: call Pruner.attach(network) first")
        with torch.no_grad():
            scores = criterion(replace(self.context, memory=self.memory, **changed))
        if not (criterion.of_units or criterion.of_channels):
            _check(criterion, scores, self.context.params)
        return scores

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


def _check(criterion: Criterion, scores: Any, params: Mapping[str, Tensor]) -> None:
    kind = type(criterion).__name__
    if not isinstance(scores, Mapping):
        raise ValueError(f"{kind} returned a {type(scores).__name__}: expected scores by the names of ctx.params")
    if odd := params.keys() ^ scores.keys():
        what = ", ".join(f"{'no scores of' if name in params else 'scores of'} {name}" for name in sorted(odd))
        raise ValueError(f"{kind} returned {what}: expected one score a weight for each name in ctx.params")
    for name, weight in params.items():
        score = scores[name]
        if not isinstance(score, Tensor) or score.shape != weight.shape or not score.is_floating_point():
            found = f"{tuple(score.shape)} of {score.dtype}" if isinstance(score, Tensor) else type(score).__name__
            raise ValueError(
                f"{kind}: the scores of {name} are {found}, expected floats in the shape of the weight, "
                f"{tuple(weight.shape)}: a score of a whole filter is shared among its weights"
            )


def mark_pruned(criterion: Criterion, scores: Scores, masks: Masks) -> Scores:
    """`scores` with -inf for what is pruned. Raises ValueError where another is -inf."""
    kept = {n: masks[n].to(s.device) if n in masks else torch.ones_like(s, dtype=torch.bool) for n, s in scores.items()}
    wrong = torch.stack([(score.isneginf() & kept[name]).any() for name, score in scores.items()]).tolist()
    if any(wrong):
        name, kind = [*scores][wrong.index(True)], type(criterion).__name__
        raise ValueError(f"{kind}: a score of {name} is -inf, which marks what is pruned: return finite scores")
    return {name: score.masked_fill(~kept[name], -torch.inf) for name, score in scores.items()}
