"""Test accuracy over epochs: a figure for each method, with a line for each rate."""

from dataclasses import asdict
from functools import partial

import altair as alt

from prunelab.report.figures import events, series
from prunelab.report.figures.series import Point
from prunelab.report.figures.style import BAND, FEW, Drawings, Spec, accuracy_axis, to_spec
from prunelab.report.groups import Group, slug


def charts(group: Group) -> Drawings:
    """By file name without its ending."""
    every = series.over_epochs(group.results)
    methods = dict.fromkeys(p.method for p in every)
    return {f"accuracy_over_epochs-{slug(m)}{group.suffix}": partial(over_epochs, group, every, m) for m in methods}


def over_epochs(group: Group, every: list[Point], method: str) -> Spec:
    """Of one `method`; axes are those of `every` point of the group, so that its figures compare."""
    points = [p for p in every if p.method == method]
    names = {rate: f"{rate:g}" for rate in sorted({p.rate for p in points})}
    scale = alt.Scale(domain=list(names.values()), range=[group.colours.rates[rate] for rate in names])
    last = max(p.x for p in every)
    epoch = alt.X("x:Q", title="epoch", scale=alt.Scale(domain=[1, last], nice=False, padding=10))
    ticks = alt.Undefined if last > FEW else list(range(1, int(last) + 1))
    epoch = epoch.axis(tickMinStep=1, tickCount=10, values=ticks, format="d", labelFlush=False)
    values = [asdict(p) | {"line": names[p.rate]} for p in points]
    base = alt.Chart(alt.NamedData("points")).encode(epoch, alt.Color("line:N", title="rate", scale=scale))
    low, mean = (accuracy_axis(end, series.domain(series.reach(every))) for end in ("low", "mean"))
    tooltip = [
        alt.Tooltip("line:N", title="rate"),
        alt.Tooltip("x:Q", title="epoch"),
        alt.Tooltip("mean:Q", title="test accuracy (%)", format=".2f"),
        alt.Tooltip("low:Q", title="lowest seed", format=".2f"),
        alt.Tooltip("high:Q", title="highest seed", format=".2f"),
        alt.Tooltip("n:Q", title="seeds"),
    ]
    layers = [
        base.mark_area(**BAND).encode(low, y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(mean),
        # Many points are invisible on the line, but still have tooltips.
        base.mark_point(filled=True, size=30, opacity=1 if last <= FEW else 0).encode(mean, tooltip=tooltip),
    ]
    happened = events.over_epochs((r for r in group.results if r.method == method), points)
    layers += events.layers(base, mean, happened)
    data = {"points": values} | ({"events": happened} if happened else {})
    several = max(p.n for p in points) > 1
    seeds = ["line: mean over seeds, band: lowest to highest"] * several
    notes = [group.setting, ", ".join([*seeds, *events.notes(happened)])]
    return to_spec(layers, data, f"Test accuracy over epochs: {method}", notes)
