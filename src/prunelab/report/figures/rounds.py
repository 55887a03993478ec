"""Test accuracy after each round of pruning and retraining: a figure for each method that prunes in rounds."""

from functools import partial

import altair as alt

from prunelab.report.figures import series
from prunelab.report.figures.series import Point, pooled
from prunelab.report.figures.style import BAND, Drawings, Spec, accuracy_axis, to_spec
from prunelab.report.groups import Group, slug


def charts(group: Group) -> Drawings:
    """By file name without its ending."""
    methods = dict.fromkeys(r.method for r in group.results if len(r.rounds) > 1)
    return {f"accuracy_by_round-{slug(m)}{group.suffix}": partial(by_round, group, m) for m in methods}


def by_round(group: Group, method: str) -> Spec:
    """Accuracy at the end of each round over the units removed by then; a line for each rate."""
    jobs = [r for r in group.results if r.method == method and len(r.rounds) > 1]
    samples = [
        (f"{r.job.rate:g}", r.job.rate, float(end["round"]), 100 * float(end["sparsity"]), float(end["test_acc"]))
        for r in jobs
        for end in r.rounds
    ]
    points: list[Point] = pooled(samples)
    rates = sorted({p.rate for p in points})
    scale = alt.Scale(domain=[f"{rate:g}" for rate in rates], range=[group.colours.rates[rate] for rate in rates])
    x = alt.X("x:Q", title="units removed (%)", scale=alt.Scale(zero=False, nice=False, padding=14))
    values = [series.row(p) | {"line": p.method} for p in points]
    base = alt.Chart(alt.NamedData("points")).encode(x, alt.Color("line:N", title="rate", scale=scale))
    lower, mean = (accuracy_axis(end, series.domain(series.reach(points))) for end in ("lower", "mean"))
    tooltip = [
        alt.Tooltip("line:N", title="rate"),
        alt.Tooltip("x:Q", title="units removed (%)", format=".1f"),
        alt.Tooltip("mean:Q", title="test accuracy (%)", format=".2f"),
        alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("n:Q", title="seeds"),
    ]
    seeds = max(p.n for p in points)
    legend, layers = ["line: mean over seeds"] * (seeds > 1), []
    if seeds >= series.FEWEST:
        legend.append("band: the mean's 95 % confidence interval (Student's t)")
        layers.append(base.mark_area(**BAND, clip=True).encode(lower, y2="upper:Q"))
    layers += [
        base.mark_line(strokeWidth=2).encode(mean),
        base.mark_point(filled=True, size=70, opacity=1).encode(mean, tooltip=tooltip),
    ]
    return to_spec(
        layers,
        {"points": values},
        f"Test accuracy at the end of each round: {method}",
        [group.setting, ", ".join(legend)],
    )
