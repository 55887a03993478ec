"""Results by method and rate: means over seeds."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, stdev

from prunelab.report.confidence import interval
from prunelab.report.groups import Group
from prunelab.store.core_hours import core_hours
from prunelab.store.result import Result

Cells = dict[tuple[str, float], list[Result]]


@dataclass(frozen=True)
class Row:
    """Means over `seeds`. Accuracies in per cent, changes in points, costs per image, time in seconds."""

    method: str
    rate: float
    seeds: tuple[int, ...]
    epochs: float  # of all its training, rounds and retraining included
    attained: float
    accuracy: float
    std: float | None  # sample standard deviation over seeds; None for a single one
    interval: tuple[float, float] | None  # of the mean accuracy, 95 % confidence (report/confidence.py)
    change: float | None  # from `_unpruned`, over `paired` seeds that both have; None when there are none
    change_from: str | None  # the method of that cell
    change_epochs: float | None  # of that cell
    paired: int
    change_interval: tuple[float, float] | None  # of the mean change, 95 % confidence; None for fewer than two pairs
    nonzero: float
    params: float  # of the dense network, as are dense_macs and dense_bops
    macs: float
    dense_macs: float
    bops: float
    dense_bops: float
    file_bytes: float | None  # None where a job did not measure it, as below
    dense_file_bytes: float | None
    latency: float | None  # at batch 128, as a share of the dense network's, timed in turn with it
    score: float | None  # (accuracy + sparsity) / 2, a fraction
    seconds: float
    seconds_per_epoch: float | None
    core_hours: float | None  # of all jobs in the row (store/core_hours.py)


def rows(group: Group) -> list[Row]:
    """By method, `none` first, then by rate."""
    cells: Cells = {}
    for result in sorted(group.results, key=lambda r: r.job.seed):
        cells.setdefault((result.method, result.job.rate), []).append(result)
    order = sorted(cells, key=lambda cell: (group.methods.index(cell[0]), cell[1]))
    return [_row(cells[cell], _unpruned(cells, cell)) for cell in order]


def _unpruned(cells: Cells, cell: tuple[str, float]) -> list[Result]:
    """What a cell's change is from: of its method at rate 0 and `none`, what has more of its seeds.

    Where both have as many, the first; at rate 0 the second: weights of one bit are not unpruned.
    """
    method, rate = cell
    seeds = {result.job.seed for result in cells[cell]}
    own, dense = cells.get((method, 0.0), []), cells.get(("none", 0.0), [])
    return max((own, dense) if rate else (dense, own), key=lambda side: len(seeds & {r.job.seed for r in side}))


def _row(cell: list[Result], unpruned: list[Result]) -> Row:
    changes = _changes(cell, unpruned)
    accuracies = [100 * r.accuracy for r in cell]
    return Row(
        method=cell[0].method,
        rate=cell[0].job.rate,
        seeds=tuple(r.job.seed for r in cell),
        epochs=fmean(r.trained_epochs for r in cell),
        attained=fmean(r.sparsity.attained for r in cell),
        accuracy=fmean(accuracies),
        std=stdev(accuracies) if len(cell) > 1 else None,
        interval=interval(accuracies),
        change=fmean(changes) if changes else None,
        change_from=unpruned[0].method if changes else None,
        change_epochs=fmean(r.trained_epochs for r in unpruned) if changes else None,
        paired=len(changes),
        change_interval=interval(changes),
        nonzero=fmean(r.pruned.nonzero for r in cell),
        params=fmean(r.dense.params for r in cell),
        macs=fmean(r.pruned.macs for r in cell),
        dense_macs=fmean(r.dense.macs for r in cell),
        bops=fmean(r.pruned.bops for r in cell),
        dense_bops=fmean(r.dense.bops for r in cell),
        file_bytes=_mean(cell, lambda r: r.pruned.file_bytes),
        dense_file_bytes=_mean(cell, lambda r: r.dense.file_bytes),
        latency=_mean(cell, lambda r: r.latency) if len({r.timed_on for r in cell}) == 1 else None,
        score=_mean(cell, lambda r: r.score if r.sparsity.layers else None),
        seconds=fmean(r.seconds for r in cell),
        seconds_per_epoch=_mean(cell, lambda r: r.seconds_per_epoch),
        core_hours=core_hours(cell),
    )


def _mean(cell: list[Result], measure: Callable[[Result], float | None]) -> float | None:
    values = [value for r in cell if (value := measure(r)) is not None]
    return fmean(values) if len(values) == len(cell) else None


def _changes(cell: list[Result], unpruned: list[Result]) -> list[float]:
    """Points, seed by seed, so that what a seed does to both numbers cancels."""
    before = {r.job.seed: r.accuracy for r in unpruned}
    return [100 * (r.accuracy - before[r.job.seed]) for r in cell if r.job.seed in before]
