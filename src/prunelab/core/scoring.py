"""Scores by the criteria of a pruner, with what these keep while they watch training."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from prunelab.core.context import Batch, Context, Unscorable
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
        """Raises Unscorable where scores of `batch` would be refused, None: those that take no data.

        Whatever else goes wrong may be right when pruning is due.
        """
        assert self.context is not None
        for criterion in self.criteria:
            if criterion.watches or (criterion.batches and batch is None):
                continue  # what it needs is not there yet
            with preserve_state(self.context.net, training=True):
                generator = torch.Generator().manual_seed(0)
                try:  # without the other ranks, which would wait for one on which this fails
                    self._score(criterion, generator=generator, draw=lambda count, _: [batch] * count, average=None)
                except Unscorable:
                    raise
                except Exception as error:
                    log.debug("%s cannot be computed before the first step: %s", type(criterion).__name__, error)

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
        raise Unscorable(f"{kind} returned a {type(scores).__name__}: expected scores by the names of ctx.params")
    if odd := params.keys() ^ scores.keys():
        what = ", ".join(f"{'no scores of' if name in params else 'scores of'} {name}" for name in sorted(odd))
        raise Unscorable(f"{kind} returned {what}: expected one score a weight for each name in ctx.params")
    for name, weight in params.items():
        score = scores[name]
        if not isinstance(score, Tensor) or score.shape != weight.shape or not score.is_floating_point():
            found = f"{tuple(score.shape)} of {score.dtype}" if isinstance(score, Tensor) else type(score).__name__
            raise Unscorable(
                f"{kind}: the scores of {name} are {found}, expected floats in the shape of the weight, "
                f"{tuple(weight.shape)}: a score of a whole filter is shared among its weights"
            )


def mark_pruned(scores: Scores, masks: Masks) -> Scores:
    """`scores` with -inf for what is pruned, and for nothing else: of the others -inf is the least finite score."""
    marked = {}
    for name, score in scores.items():
        least = torch.finfo(score.dtype).min / score.numel()  # sums of which stay finite
        living = score.masked_fill(score.isneginf(), least)
        marked[name] = living.masked_fill(~masks[name].to(score.device), -torch.inf) if name in masks else living
    return marked
