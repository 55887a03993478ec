"""Which figures does a study have, and under which heading?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prunelab.report import epochs, layers, means, overlap, rounds, tradeoff
from prunelab.report.groups import Group
from prunelab.report.look import Drawings
from prunelab.report.record import Result


@dataclass(frozen=True)
class Chapter:
    """Figures that answer one question; each is drawn for itself, so that one may fail and not the others."""

    title: str
    notes: tuple[str, ...]
    drawings: Drawings


def chapters(groups: Sequence[Group], results: Sequence[Result]) -> list[Chapter]:
    """Those with a figure. Groups of jobs that differ in more than method and rate have no lines to draw."""
    lines = [group for group in groups if not group.scattered]
    found = [
        Chapter("Accuracy over rate and cost", (), _all(means.charts, lines)),
        Chapter("Fronts", (), tradeoff.charts(results)),
        Chapter("Accuracy over epochs", (), _all(epochs.charts, lines)),
        Chapter("Rounds", (), _all(rounds.charts, lines)),
        Chapter("Sparsity by layer", (), _all(layers.charts, lines)),
        Chapter("Overlap of masks", _crowded(lines), _all(overlap.charts, lines)),
    ]
    return [chapter for chapter in found if chapter.drawings or chapter.notes]


def _all(charts: Callable[[Group], Drawings], groups: Sequence[Group]) -> Drawings:
    return {name: draw for group in groups for name, draw in charts(group).items()}


def _crowded(groups: Sequence[Group]) -> tuple[str, ...]:
    rates = sorted({rate for group in groups for rate in overlap.crowded(group)})
    if not rates:
        return ()
    told = ", ".join(f"{rate:g}" for rate in rates)
    return (f"Not drawn: rates with more than {overlap.MOST} jobs ({told}).",)
