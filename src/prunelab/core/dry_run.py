"""The last pruning of a run before its first step, on scores that are mostly made up: what would fail is refused."""

from dataclasses import replace

import torch

from prunelab.core.pruner import Pruner
from prunelab.core.time import Progress
from prunelab.core.types import Masks


def check_run(pruner: Pruner, p: Progress, timed: bool = False) -> None:
    """Raises ValueError where the last pruning of a run of `p.total` steps would fail.

    `timed`: on the training device, where latency is measured if a budget needs it, and is not measured yet.
    """
    pruner.schedule.check(p)
    if pruner.removed:
        return
    if pruner.criterion.watches and pruner.schedule(replace(p, step=0)):
        raise ValueError("this criterion watches training, and has seen none of it at step 0: prune later")
    final = pruner.schedule(replace(p, step=p.total))
    if final:
        dry_run(pruner, final, timed)
        if pruner.regrow:
            pruner.regrow.check(p)


def dry_run(pruner: Pruner, rate: float, timed: bool = False) -> Masks:
    """Masks by unit. Raises ValueError where a pruning of the attached network to `rate` would."""
    pruner.granularity.check(rate)
    criterion, unmeasured = pruner.criterion, timed and pruner.budget is not None and pruner.budget.unmeasured(rate)
    measured = unmeasured and not (criterion.batches or criterion.watches or criterion.of_units)  # weights are enough
    if pruner.allocation.as_found or measured:
        scores = pruner.unit_scores()
    else:  # made up, alike in all layers, so that a global threshold empties none and warns of none
        scores = {n: torch.linspace(0, 1, u.numel()).view(u.shape) for n, u in pruner.units().items()}
    if pruner.budget:
        return pruner.budget.dry_run(pruner.allocation, scores, rate, timed)
    return pruner.allocation(scores, rate)
