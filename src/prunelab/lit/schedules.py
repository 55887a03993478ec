"""How does the learning rate move over a run of `steps` optimizer steps? The optimizer's own rate is the peak."""

from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)


def one_cycle(
    optimizer: Optimizer, steps: int, warmup: float = 0.2, start: float = 0.04, end: float = 1e-4
) -> LRScheduler:
    """Smith 2018: from `start` times the peak up in the first `warmup` of the run, then down to `end` times it."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(
        optimizer,
        peaks,
        steps,
        pct_start=warmup,
        div_factor=1 / start,
        final_div_factor=start / end,
        cycle_momentum=False,
    )


def cosine(optimizer: Optimizer, steps: int, warmup: float = 0.0) -> LRScheduler:
    """Loshchilov & Hutter 2017 without restarts: half a cosine to 0, after a linear `warmup` share of the run."""
    rising = round(warmup * steps)
    falling = CosineAnnealingLR(optimizer, max(1, steps - rising))
    if not rising:
        return falling
    return SequentialLR(optimizer, [LinearLR(optimizer, 0.01, total_iters=rising), falling], [rising])


def multi_step(
    optimizer: Optimizer, steps: int, milestones: Sequence[float] = (0.5, 0.75), gamma: float = 0.1
) -> LRScheduler:
    """Times `gamma` at each of the `milestones`, fractions of the run (He et al. 2015)."""
    return MultiStepLR(optimizer, [round(m * steps) for m in milestones], gamma)
