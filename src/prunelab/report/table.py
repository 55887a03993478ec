"""What did each method reach at each rate, as numbers? Means over seeds, one row per method and rate."""

from dataclasses import dataclass
from statistics import fmean, stdev

from prunelab.report.groups import Group
from prunelab.report.record import Result

Cells = dict[tuple[str, float], list[Result]]


@dataclass(frozen=True)
class Row:
    """Means over `seeds`. Accuracies in per cent, changes in points, costs per image, time in seconds."""

    method: str
    rate: float
    seeds: tuple[int, ...]
    attained: float
    accuracy: float
    std: float | None  # sample standard deviation over seeds; None for a single one
    change: float | None  # from rate 0, over `paired` seeds that both have; None when there are none
    paired: int
    nonzero: float
    params: float  # the dense parent's, as are dense_macs and dense_bops
    macs: float
    dense_macs: float
    bops: float
    dense_bops: float
    seconds: float


def rows(group: Group) -> list[Row]:
    """By method, `none` first, then by rate."""
    cells: Cells = {}
    for result in sorted(group.results, key=lambda r: r.seed):
        cells.setdefault((result.method, result.rate), []).append(result)
    order = sorted(cells, key=lambda cell: (group.methods.index(cell[0]), cell[1]))
    return [_row(cells[cell], cells.get((cell[0], 0.0)) or cells.get(("none", 0.0), [])) for cell in order]


def _row(cell: list[Result], unpruned: list[Result]) -> Row:
    changes = _changes(cell, unpruned)
    accuracies = [100 * r.accuracy for r in cell]
    return Row(
        method=cell[0].method,
        rate=cell[0].rate,
        seeds=tuple(r.seed for r in cell),
        attained=fmean(r.attained for r in cell),
        accuracy=fmean(accuracies),
        std=stdev(accuracies) if len(cell) > 1 else None,
        change=fmean(changes) if changes else None,
        paired=len(changes),
        nonzero=fmean(r.pruned.nonzero for r in cell),
        params=fmean(r.dense.params for r in cell),
        macs=fmean(r.pruned.macs for r in cell),
        dense_macs=fmean(r.dense.macs for r in cell),
        bops=fmean(r.pruned.bops for r in cell),
        dense_bops=fmean(r.dense.bops for r in cell),
        seconds=fmean(r.seconds for r in cell),
    )


def _changes(cell: list[Result], unpruned: list[Result]) -> list[float]:
    """Points, seed by seed: a seed's luck is in both numbers and cancels."""
    before = {r.seed: r.accuracy for r in unpruned}
    return [100 * (r.accuracy - before[r.seed]) for r in cell if r.seed in before]
