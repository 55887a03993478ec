"""Learning-rate schedules over `steps` optimizer steps; the optimizer's own rate is the peak."""

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


def _check(**fractions: float) -> None:
    """Raises ValueError for a value that PyTorch's schedules take and that makes a rate negative, or never ends."""
    for name, value in fractions.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value}: expected a fraction in [0, 1]")


def one_cycle(
    optimizer: Optimizer, steps: int, warmup: float = 0.2, start: float = 0.04, end: float = 1e-4
) -> LRScheduler:
    """Smith 2018: up from `start` times the peak during a fraction `warmup` of the run, then down to `end` times it."""
    _check(warmup=warmup, start=start, end=end)
    if warmup == 1:  # PyTorch would divide by the length of the fall, 0, after the last step
        raise ValueError("warmup=1: the rate would never fall; expected a fraction below 1")
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(
        optimizer,
        peaks,
        steps,
        pct_start=warmup if warmup * steps != 1 else 0.0,  # one step is no rise; PyTorch would divide by 0
        div_factor=1 / start,
        final_div_factor=start / end,
        cycle_momentum=False,
    )


def cosine(optimizer: Optimizer, steps: int, warmup: float = 0.0) -> LRScheduler:
    """Loshchilov & Hutter 2017 without restarts: a linear `warmup`, a fraction of the run, then half a cosine to 0."""
    _check(warmup=warmup)
    warmup_steps = round(warmup * steps)
    decay = CosineAnnealingLR(optimizer, max(1, steps - warmup_steps))
    if not warmup_steps:
        return decay
    return SequentialLR(optimizer, [LinearLR(optimizer, 0.01, total_iters=warmup_steps), decay], [warmup_steps])


def multi_step(
    optimizer: Optimizer, steps: int, milestones: Sequence[float] = (0.5, 0.75), gamma: float = 0.1
) -> LRScheduler:
    """He et al. 2015: multiplied by `gamma` at each of the `milestones`, fractions of the run."""
    _check(gamma=gamma, **{f"milestones[{i}]": m for i, m in enumerate(milestones)})
    return MultiStepLR(optimizer, [round(m * steps) for m in milestones], gamma)
