"""What accuracy is left at what cost? A point for each job of a study, and the front of those unsurpassed."""

from collections.abc import Callable, Sequence
from functools import partial

import altair as alt

from prunelab.report import palette, series
from prunelab.report.front import same_images, unsurpassed
from prunelab.report.groups import Group, slug
from prunelab.report.look import Drawings, Spec, accuracy_axis, cost_axis, finished
from prunelab.report.means import job
from prunelab.report.record import BATCH, Result

Cost = Callable[[Result], float | None]
COSTS: dict[str, Cost] = {
    "MACs": lambda r: r.pruned.macs,
    "parameters": lambda r: r.pruned.nonzero,
    "bytes": lambda r: r.pruned.file_bytes,
    "latency": lambda r: r.latency,
}
AXES = {
    "MACs": "MACs left, per image",
    "parameters": "parameters left",
    "bytes": "bytes of the file",
    "latency": f"latency of {BATCH} images, as a share of the unpruned net's",
}
WIDE = 10  # times the least cost: from there on a linear axis would crowd the small nets
CROWD = 2000  # surpassed jobs; of more, evenly many are drawn


def charts(results: Sequence[Result]) -> Drawings:
    """By file name without its ending; none of a cost that all jobs share, or that one did not measure."""
    return {
        slug(f"accuracy_over_{what.lower()}{which}"): partial(over_cost, members, what)
        for which, members in same_images(results).items()
        for what, cost in COSTS.items()
        if len(found := {cost(r) for r in members}) > 1 and None not in found
    }


def over_cost(results: Sequence[Result], what: str) -> Spec:
    """Jobs that another one surpasses are faint; a line joins the others."""
    every = Group(tuple(results))
    costs = [float(COSTS[what](r) or 0) for r in results]
    on = unsurpassed([(r.accuracy, cost) for r, cost in zip(results, costs, strict=True)])
    rows = [job(r) | {"cost": cost} for r, cost in zip(results, costs, strict=True)]
    best, others = ([row for row, is_on in zip(rows, on, strict=True) if is_on == want] for want in (True, False))
    drawn = others[:: -(-len(others) // CROWD)] if others else []
    colours, shapes = palette.categorical(every.methods)
    colour = alt.Color("method:N", title="method", scale=alt.Scale(domain=every.methods, range=colours))
    shape = alt.Shape("method:N", title="method", scale=alt.Scale(domain=every.methods, range=shapes))
    wide = what != "latency" and max(costs) > WIDE * max(min(costs), 1) and min(costs) > 0
    x = cost_axis("cost", costs, AXES[what], log=wide)
    y = accuracy_axis("accuracy", series.domain(series.over(results, lambda r: r.rate)))
    told = [
        alt.Tooltip("job:N"),
        alt.Tooltip("overrides:N", title="asked"),
        alt.Tooltip("accuracy:Q", title="test accuracy (%)", format=".2f"),
        alt.Tooltip("cost:Q", title=AXES[what], format=",.4~r"),
    ]
    faint, front = (alt.Chart(alt.NamedData(name)).encode(x, y) for name in ("surpassed", "front"))
    layers = [
        faint.mark_point(filled=True, size=50, opacity=0.3).encode(colour, shape, tooltip=told),
        front.mark_line(color="#555555", strokeWidth=1.5),
        front.mark_point(filled=True, size=80, opacity=1).encode(colour, shape, tooltip=told),
    ]
    note = f"a point for each of {len(results)} jobs; line: those that no other one surpasses (Pareto front)"
    if len(drawn) < len(others):
        note = note.replace("jobs;", f"jobs, {len(drawn)} of the {len(others)} surpassed ones drawn;")
    return finished(
        layers, {"surpassed": drawn, "front": best}, f"Front of test accuracy and {what}", [every.scene, note]
    )
