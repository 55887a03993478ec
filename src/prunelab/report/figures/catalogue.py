"""Which figures does a study have, and under which heading?"""

from collections.abc import Callable, Mapping, Sequence

from prunelab.report.figures import epochs, layers, means, overlap, rounds, scan, tradeoff
from prunelab.report.figures.style import Drawings
from prunelab.report.groups import Group
from prunelab.store.result import Result

MOST = 12  # groups that have lines of their own, of a study with very many
Chapter = Callable[[Sequence[Group], Sequence[Result]], Drawings]


def _lines(charts: Callable[[Group], Drawings]) -> Chapter:
    """Of each group: jobs that differ in more than method and rate have no lines to draw."""

    def chapter(groups: Sequence[Group], results: Sequence[Result]) -> Drawings:
        return {name: draw for group in _drawn(groups) for name, draw in charts(group).items()}

    return chapter


def _jobs(charts: Callable[[Sequence[Result]], Drawings]) -> Chapter:
    """Of single jobs, whatever their group."""
    return lambda groups, results: charts(results)


# Each answers one question.
CHAPTERS: Mapping[str, Chapter] = {
    "Accuracy over rate and cost": _lines(means.charts),
    "Fronts": _jobs(tradeoff.charts),
    "Scans without retraining": _jobs(scan.charts),
    "Accuracy over epochs": _lines(epochs.charts),
    "Rounds": _lines(rounds.charts),
    "Sparsity by layer": _lines(layers.charts),
    "Overlap of masks": _lines(overlap.charts),
}


def notes(title: str, groups: Sequence[Group]) -> tuple[str, ...]:
    """What a chapter leaves out."""
    lines = [group for group in groups if not group.scattered]
    few = title not in ("Fronts", "Scans without retraining") and len(lines) > MOST
    said = [f"Of {len(lines)} groups the first {MOST} are drawn."] if few else []
    rates = sorted({rate for group in _drawn(groups) for rate in overlap.crowded(group)})
    if title == "Overlap of masks" and rates:
        told = ", ".join(f"{rate:g}" for rate in rates)
        said.append(f"Not drawn: rates with more than {overlap.MOST} jobs ({told}).")
    return tuple(said)


def _drawn(groups: Sequence[Group]) -> list[Group]:
    return [group for group in groups if not group.scattered][:MOST]
