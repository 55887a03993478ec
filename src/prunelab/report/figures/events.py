"""Marks on the curves over epochs: when units were pruned, and when surgery removed them from the network."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import altair as alt

from prunelab.report.figures.series import Point
from prunelab.store.result import Result

KINDS = {"pruned": "triangle-down", "surgery": "square"}
NOTES = {
    "pruned": "▼: pruned in this epoch (of several in a row, the first and the last)",
    "surgery": "□: surgery (the network becomes small)",
}


def over_epochs(results: Iterable[Result], points: Sequence[Point]) -> list[dict[str, Any]]:
    """Of one method: a row for each rate, epoch and kind of event, on the mean where that epoch has one."""
    at: set[tuple[str, float, int]] = set()
    for result in results:
        at |= {("pruned", result.job.rate, epoch) for epoch in ends(result.pruned_epochs)}
        if (epoch := result.surgery_epoch) is not None:
            at.add(("surgery", result.job.rate, epoch))
    return [
        {"event": kind, "line": f"{p.rate:g}", "x": p.x, "mean": p.mean}
        for kind in KINDS
        for p in points
        if (kind, p.rate, p.x) in at
    ]


def ends(epochs: Sequence[int]) -> set[int]:
    """The first and the last of each stretch of consecutive epochs: a gradual method prunes in dozens."""
    gaps = [(a, b) for a, b in pairwise(epochs) if b > a + 1]
    return {*epochs[:1], *epochs[-1:], *(epoch for gap in gaps for epoch in gap)}


def layers(base: alt.Chart, mean: alt.Y, rows: Sequence[dict[str, Any]]) -> list[alt.Chart]:
    """Above the line: a filled triangle; around the point: a hollow square. Nothing where nothing happened."""
    kinds = [kind for kind in KINDS if any(row["event"] == kind for row in rows)]
    tooltip = [alt.Tooltip("event:N"), alt.Tooltip("line:N", title="rate"), alt.Tooltip("x:Q", title="epoch")]
    return [
        base.properties(data=alt.NamedData("events"))
        .transform_filter(f"datum.event == '{kind}'")
        .mark_point(
            shape=KINDS[kind],
            filled=kind == "pruned",
            size=60 if kind == "pruned" else 130,
            opacity=1,
            yOffset=-10 if kind == "pruned" else 0,
        )
        .encode(mean, tooltip=tooltip)
        for kind in kinds
    ]


def notes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the marks that are drawn mean."""
    return [note for kind, note in NOTES.items() if any(row["event"] == kind for row in rows)]
