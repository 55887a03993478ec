"""Test accuracy against cost: a point for each job of a study, and the Pareto front."""

from collections.abc import Sequence
from functools import partial

import altair as alt

from prunelab.report.figures import series
from prunelab.report.figures.costs import BYTES, MACS, PARAMETERS, Cost
from prunelab.report.figures.means import job
from prunelab.report.figures.style import Drawings, Spec, accuracy_axis, cost_axis, is_wide, to_spec
from prunelab.report.groups import Group, slug
from prunelab.report.pareto import pareto_optimal, same_images
from prunelab.store.result import Result

COSTS = (MACS, PARAMETERS, BYTES)  # not latency: it is noisy, and a front would pick lucky jobs
CROWD = 2000  # dominated jobs; of more, an even subset is drawn


def charts(results: Sequence[Result]) -> Drawings:
    """By file name without its ending; none for a cost that is the same for all jobs."""
    return {
        slug(f"pareto_front_over_{cost.title.lower()}{which}"): partial(
            over_cost, cost.measured(members), cost, results
        )
        for which, members in same_images(results).items()
        for cost in COSTS
        if cost.measured(members)
    }


def over_cost(results: Sequence[Result], cost: Cost, study: Sequence[Result] = ()) -> Spec:
    """Dominated jobs are faint; a line joins the Pareto-optimal ones. Colours are those of the `study`."""
    every = Group(tuple(results), study=tuple(study))
    costs = [float(cost.value(r) or 0) for r in results]
    optimal = pareto_optimal([(r.accuracy, value) for r, value in zip(results, costs, strict=True)])
    rows = [job(r) | {"cost": value} for r, value in zip(results, costs, strict=True)]
    front, dominated = ([row for row, on in zip(rows, optimal, strict=True) if on == want] for want in (True, False))
    drawn = dominated[:: -(-len(dominated) // CROWD)] if dominated else []
    colours, shapes = every.colours.methods(every.methods)
    colour = alt.Color("method:N", title="method", scale=alt.Scale(domain=every.methods, range=colours))
    shape = alt.Shape("method:N", title="method", scale=alt.Scale(domain=every.methods, range=shapes))
    wide = min(costs) > 0 and is_wide(max(costs), max(min(costs), 1))
    x = cost_axis("cost", costs, cost.axis, log=wide)
    y = accuracy_axis("accuracy", series.domain([100 * r.accuracy for r in results]))
    tooltip = [
        alt.Tooltip("job:N"),
        alt.Tooltip("overrides:N"),
        alt.Tooltip("accuracy:Q", title="test accuracy (%)", format=".2f"),
        alt.Tooltip("cost:Q", title=cost.axis, format=",.4~r"),
    ]
    faint, strong = (alt.Chart(alt.NamedData(name)).encode(x, y) for name in ("dominated", "front"))
    points = faint.mark_point(filled=True, size=50, opacity=0.3).encode(colour, shape, tooltip=tooltip)
    layers = [
        *[points] * bool(drawn),  # a layer without data is nothing that a screen reader can name
        strong.mark_line(color="#555555", strokeWidth=1.5),
        strong.mark_point(filled=True, size=80, opacity=1).encode(colour, shape, tooltip=tooltip),
    ]
    note = f"a point for each of {len(results)} jobs; line: Pareto front"
    if len(drawn) < len(dominated):
        note = note.replace("jobs;", f"jobs, {len(drawn)} of the {len(dominated)} dominated ones drawn;")
    return to_spec(
        layers,
        {"front": front} | ({"dominated": drawn} if drawn else {}),
        f"Pareto front of test accuracy and {cost.title}",
        [every.scene, note],
    )
