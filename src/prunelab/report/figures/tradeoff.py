"""What accuracy is left at what cost? A point for each job of a study, and the front of those unsurpassed."""

from collections.abc import Sequence
from functools import partial

import altair as alt

from prunelab.report.figures import palette, series
from prunelab.report.figures.costs import BYTES, MACS, PARAMETERS, Cost
from prunelab.report.figures.means import job
from prunelab.report.figures.style import Drawings, Spec, accuracy_axis, cost_axis, finished
from prunelab.report.groups import Group, slug
from prunelab.report.pareto import same_images, unsurpassed
from prunelab.store.result import Result

COSTS = (MACS, PARAMETERS, BYTES)  # latency scatters, and a front picks what was lucky
WIDE = 10  # times the least cost: from there on a linear axis would crowd the small nets
CROWD = 2000  # surpassed jobs; of more, evenly many are drawn


def charts(results: Sequence[Result]) -> Drawings:
    """By file name without its ending; none of a cost that all jobs share."""
    return {
        slug(f"accuracy_over_{cost.title.lower()}{which}"): partial(over_cost, cost.told(members), cost)
        for which, members in same_images(results).items()
        for cost in COSTS
        if cost.told(members)
    }


def over_cost(results: Sequence[Result], cost: Cost) -> Spec:
    """Jobs that another one surpasses are faint; a line joins the others."""
    every = Group(tuple(results))
    costs = [float(cost.of(r) or 0) for r in results]
    on = unsurpassed([(r.accuracy, its) for r, its in zip(results, costs, strict=True)])
    rows = [job(r) | {"cost": its} for r, its in zip(results, costs, strict=True)]
    best, others = ([row for row, is_on in zip(rows, on, strict=True) if is_on == want] for want in (True, False))
    drawn = others[:: -(-len(others) // CROWD)] if others else []
    colours, shapes = palette.categorical(every.methods)
    colour = alt.Color("method:N", title="method", scale=alt.Scale(domain=every.methods, range=colours))
    shape = alt.Shape("method:N", title="method", scale=alt.Scale(domain=every.methods, range=shapes))
    wide = max(costs) > WIDE * max(min(costs), 1) and min(costs) > 0
    x = cost_axis("cost", costs, cost.axis, log=wide)
    y = accuracy_axis("accuracy", series.domain([100 * r.accuracy for r in results]))
    told = [
        alt.Tooltip("job:N"),
        alt.Tooltip("overrides:N", title="asked"),
        alt.Tooltip("accuracy:Q", title="test accuracy (%)", format=".2f"),
        alt.Tooltip("cost:Q", title=cost.axis, format=",.4~r"),
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
        layers, {"surpassed": drawn, "front": best}, f"Front of test accuracy and {cost.title}", [every.scene, note]
    )
