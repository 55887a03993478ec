"""What accuracy is left at what cost? A point for each job of a study, and the front of those unsurpassed."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import altair as alt

from prunelab.report import palette, series
from prunelab.report.figures import Drawings, accuracy_axis, finished
from prunelab.report.front import same_images, unsurpassed
from prunelab.report.groups import Group, slug
from prunelab.report.record import Result
from prunelab.report.series import Point

COSTS: dict[str, Callable[[Result], float]] = {
    "MACs": lambda r: r.pruned.macs,
    "parameters": lambda r: r.pruned.nonzero,
}
WIDE = 10  # times the least cost: from there on a linear axis would crowd the small nets


def charts(results: Sequence[Result]) -> Drawings:
    """What draws each chart, by file name without its ending; none of a cost that all jobs share."""
    return {
        slug(f"accuracy_over_{what.lower()}{which}"): partial(over_cost, members, what)
        for which, members in same_images(results).items()
        for what, cost in COSTS.items()
        if len({cost(r) for r in members}) > 1
    }


def over_cost(results: Sequence[Result], what: str) -> alt.LayerChart:
    """Jobs that another one surpasses are faint; a line joins the others."""
    every = Group(tuple(results))
    costs = [COSTS[what](r) for r in results]
    on = unsurpassed([(r.accuracy, cost) for r, cost in zip(results, costs, strict=True)])
    rows = [
        {"cost": cost, "accuracy": 100 * r.accuracy, "method": r.method, "front": is_on}
        for r, cost, is_on in zip(results, costs, on, strict=True)
    ]
    colours, shapes = palette.categorical(every.methods)
    colour = alt.Color("method:N", title="method", scale=alt.Scale(domain=every.methods, range=colours))
    shape = alt.Shape("method:N", title="method", scale=alt.Scale(domain=every.methods, range=shapes))
    points = [Point(r.method, r.rate, 0, 100 * r.accuracy, 100 * r.accuracy, 100 * r.accuracy) for r in results]
    x, y = _cost_axis(costs, what), accuracy_axis("accuracy", series.domain(points))
    base = alt.Chart(alt.Data(values=rows)).encode(x, y)
    best = base.transform_filter("datum.front")
    layers = [
        base.transform_filter("!datum.front").mark_point(filled=True, size=50, opacity=0.3).encode(colour, shape),
        best.mark_line(color="#555555", strokeWidth=1.5),
        best.mark_point(filled=True, size=80, opacity=1).encode(colour, shape),
    ]
    note = f"a point for each of {len(results)} jobs; line: those that no other one surpasses (Pareto front)"
    return finished(layers, f"Test accuracy over {what} left", [every.scene, note])


def _cost_axis(costs: list[float], what: str) -> alt.X:
    wide = max(costs) > WIDE * max(min(costs), 1)
    kind: Literal["log", "linear"] = "log" if wide and min(costs) > 0 else "linear"
    title = "MACs left, per image" if what == "MACs" else f"{what} left"
    scale = alt.Scale(type=kind, zero=False, nice=False, padding=14)
    axis = alt.Axis(format="~s", tickCount=6, labelFlush=False, labelOverlap="greedy")
    if kind == "log":  # of its own ticks Vega labels those below 5 only
        axis["values"] = [m * 10**k for k in range(13) for m in (1, 2, 5) if min(costs) <= m * 10**k <= max(costs)]
    return alt.X("cost:Q", title=title + " (log scale)" * (kind == "log"), scale=scale, axis=axis)
