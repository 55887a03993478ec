"""The figures of a study, by chapter."""

from collections.abc import Callable, Mapping, Sequence

from prunelab.report.figures import epochs, layers, means, overlap, rounds, scan, tradeoff
from prunelab.report.figures.style import Drawings
from prunelab.report.groups import Group
from prunelab.store.result import Result

MOST = 12  # groups with figures of their own
Chapter = Callable[[Sequence[Group], Sequence[Result]], Drawings]


def _lines(charts: Callable[[Group], Drawings]) -> Chapter:
    """Figures of each group, except scattered ones, whose jobs form no lines."""

    def chapter(groups: Sequence[Group], results: Sequence[Result]) -> Drawings:
        return {name: draw for group in _drawn(groups) for name, draw in charts(group).items()}

    return chapter


def _jobs(charts: Callable[[Sequence[Result]], Drawings]) -> Chapter:
    """Figures of single jobs, whatever their group."""
    return lambda groups, results: charts(results)


CHAPTERS: Mapping[str, Chapter] = {
    "Accuracy over rate and cost": _lines(means.charts),
    "Pareto fronts": _jobs(tradeoff.charts),
    "Scans without retraining": _jobs(scan.charts),
    "Accuracy over epochs": _lines(epochs.charts),
    "Rounds": _lines(rounds.charts),
    "Sparsity by layer": _lines(layers.charts),
    "Overlap of masks": _lines(overlap.charts),
}


def notes(title: str, groups: Sequence[Group]) -> tuple[str, ...]:
    """What a chapter leaves out."""
    lines = [group for group in groups if not group.scattered]
    truncated = title not in ("Pareto fronts", "Scans without retraining") and len(lines) > MOST
    sentences = [f"Only the first {MOST} of {len(lines)} groups are drawn."] if truncated else []
    rates = sorted({rate for group in _drawn(groups) for rate in overlap.crowded(group)})
    if title == "Overlap of masks" and rates:
        listed = ", ".join(f"{rate:g}" for rate in rates)
        sentences.append(f"Not drawn: rates with more than {overlap.MOST} jobs ({listed}).")
    return tuple(sentences)


def _drawn(groups: Sequence[Group]) -> list[Group]:
    return [group for group in groups if not group.scattered][:MOST]
