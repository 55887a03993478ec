"""Test accuracy over rate and over cost: means over seeds, a line for each method."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import altair as alt

from prunelab.report.figures import palette, series
from prunelab.report.figures.costs import BOPS, BYTES, LATENCY, MACS, Cost
from prunelab.report.figures.series import Point
from prunelab.report.figures.style import Drawings, Spec, accuracy_axis, cost_axis, is_wide, rate_axis, to_spec
from prunelab.report.groups import Group
from prunelab.store.result import Result

KINDS = {"macs": "MACs", "bops": "BOPs", "params": "parameters"}  # of budgets, for axes
FAR = 0.05  # from its rate is what a job removed by rates of its own
CROWD = 1000  # jobs; with more, single jobs are not drawn
COSTS = (MACS, BOPS, BYTES, LATENCY)
UNPRUNED = alt.Chart(alt.NamedData("unpruned")).mark_rule(strokeDash=[5, 4], color=palette.UNPRUNED[0], opacity=0.6)
IDENTITY = (alt.Tooltip("job:N"), alt.Tooltip("overrides:N"))
# Each seed with its overrides; on the page a click opens the card of the job.
JOBS = (
    alt.Chart(alt.NamedData("jobs"))
    .mark_point(size=28, opacity=0.45)
    .encode(tooltip=[*IDENTITY, alt.Tooltip("accuracy:Q", format=".2f")])
)


def charts(group: Group) -> Drawings:
    """By file name without its ending; none for a cost that is the same for all jobs."""
    drawings: Drawings = {f"accuracy_over_rate{group.suffix}": partial(over_rate, group)}
    for cost in COSTS:
        if cost.measured(group.results):
            drawings[f"mean_accuracy_over_{cost.title.lower()}{group.suffix}"] = partial(over_cost, group, cost)
    return drawings


def over_rate(group: Group) -> Spec:
    """Accuracy after the last epoch; a dashed line across is that of the unpruned network."""
    log = is_wide(1 - group.rates[0], 1 - group.rates[-1])

    def value(result: Result) -> float:
        return 1 - result.job.rate if log else result.job.rate

    of = removed(group.results)
    points, rate = series.over(group.results, value), rate_axis("x", group.rates, log, of)
    what = f"{of or 'share'} left" if log else "rate"
    return _figure(group, points, value, rate, what, "accuracy after the last epoch, over rate", False)


def removed(results: Sequence[Result]) -> str:
    """What all rates are fractions of; "" where that differs, or where something else was removed than was asked."""
    budgets = [(r.budget or {"of": "units", "attained": r.sparsity.attained}) for r in results if r.job.rate]
    rates = [r.job.rate for r in results if r.job.rate]
    kinds = {budget["of"] for budget in budgets} or {"units"}
    far = any(abs(budget["attained"] - rate) > FAR for budget, rate in zip(budgets, rates, strict=True))
    [*others, kind] = sorted(kinds)
    return "" if others or far else KINDS.get(kind, kind)


def over_cost(group: Group, cost: Cost) -> Spec:
    """Of the jobs that measured the cost."""
    measured = replace(group, results=tuple(cost.measured(group.results)))
    points = series.over(measured.results, lambda r: float(cost.value(r) or 0))
    x = cost_axis("x", [p.x for p in points], cost.axis, log=False)
    if cost is LATENCY:
        x = x.axis(format=".2~f", tickCount=6, labelFlush=False)
    elsewhere = ", or not all seeds on one machine" * bool(cost.where)
    partial_note = f"{len(measured.results)} of {len(group.results)} jobs: the others did not measure it{elsewhere}"
    notes = [partial_note] if len(measured.results) < len(group.results) else []
    return _figure(measured, points, cost.value, x, cost.axis, f"accuracy over {cost.title}", cost is LATENCY, notes)


def _figure(
    group: Group,
    points: list[Point],
    value: Callable[[Result], float | None],
    x: alt.X,
    what: str,
    title: str,
    noisy: bool,
    notes: Sequence[str] = (),
) -> Spec:
    colours, shapes = group.colours.methods(group.methods)
    colour = alt.Color("method:N", title="method", scale=alt.Scale(domain=group.methods, range=colours))
    shape = alt.Shape("method:N", title="method", scale=alt.Scale(domain=group.methods, range=shapes))
    alone = {} if max(group.seeds) > 1 else {(r.method, r.job.rate): job(r) for r in group.results}
    rows = [series.row(p) | alone.get((p.method, p.rate), {}) for p in points]
    data = {"points": rows}
    if unpruned := [row for row in rows if row["method"] == "none" and not row["rate"]]:
        data["unpruned"] = unpruned
    base = alt.Chart(alt.NamedData("points")).encode(x, colour)
    domain = series.domain(series.reach(points))
    lower, mean = (accuracy_axis(end, domain) for end in ("lower", "mean"))
    thin = base.mark_line(strokeWidth=1, opacity=0.4).encode(
        order="rate:Q"
    )  # by rate, as latency may go back and forth
    layers = [UNPRUNED.encode(mean)] if unpruned else []  # an empty layer is an empty image to a screen reader
    if max(group.seeds) >= series.FEWEST:  # Vega warns of an empty layer
        ends = [end for p in points for end in (p.lower, p.upper) if end is not None]
        # Clipping doubles the time to draw.
        wide = min(ends) < domain[0] or max(ends) > domain[1]
        # Bars, as a band between the few points that have an interval would not show where their neighbours have none.
        layers.append(base.mark_rule(strokeWidth=1.5, clip=wide).encode(lower, y2="upper:Q"))
    layers.append(thin.encode(mean) if noisy else base.mark_line(strokeWidth=2).encode(mean))
    several = max(group.seeds) > 1
    if several and len(group.results) <= CROWD:
        data["jobs"] = [job(r) | {"x": value(r)} for r in group.results]
        layers.append(JOBS.encode(x, accuracy_axis("accuracy", domain), colour, shape))
    layers.append(
        base.mark_point(filled=True, size=70, opacity=1).encode(
            mean, shape, tooltip=[*_tooltip(what), *IDENTITY] if alone else _tooltip(what)
        )
    )
    legend = ["line: mean over seeds"] * several + ["faint: single jobs"] * ("jobs" in data)
    if max(group.seeds) >= series.FEWEST:
        legend.append("bar: the mean's 95 % confidence interval (Student's t)")
    title = f"{'Mean test' if several else 'Test'} {title}"
    return to_spec(layers, data, title, [group.setting, ", ".join(legend), *notes])


def job(result: Result) -> dict[str, object]:
    """The data of a mark for one job."""
    return {
        "job": result.folder.name,
        "overrides": " ".join(result.job.overrides),
        "method": result.method,
        "rate": result.job.rate,
        "accuracy": 100 * result.accuracy,
    }


def _tooltip(what: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("method:N"),
        alt.Tooltip("rate:Q"),
        alt.Tooltip("x:Q", title=what, format=",.4~r"),
        alt.Tooltip("mean:Q", title="test accuracy (%)", format=".2f"),
        alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("n:Q", title="seeds"),
    ]
