"""Test accuracy after each round of pruning and retraining: of the methods side by side, and of each at its rates."""

from collections.abc import Mapping, Sequence
from functools import partial

import altair as alt

from prunelab.report.figures import series
from prunelab.report.figures.series import Point, pooled
from prunelab.report.figures.style import BAND, Drawings, Spec, accuracy_axis, is_wide, to_spec
from prunelab.report.groups import Group, slug
from prunelab.store.result import Result


def charts(group: Group) -> Drawings:
    """By file name without its ending. Where every method has one rate, those side by side show all there is."""
    methods: dict[str, list[Result]] = {}
    for result in group.results:
        if len(result.rounds) > 1:
            methods.setdefault(result.method, []).append(result)
    drawings: Drawings = {}
    if len(methods) > 1:
        drawings[f"accuracy_by_round{group.suffix}"] = partial(by_method, group, methods)
    for method, jobs in methods.items():
        if len(methods) == 1 or len({r.job.rate for r in jobs}) > 1:
            drawings[f"accuracy_by_round-{slug(method)}{group.suffix}"] = partial(by_rate, group, method, jobs)
    return drawings


def by_method(group: Group, methods: Mapping[str, Sequence[Result]]) -> Spec:
    """A line for each method, at its highest rate."""
    highest = {m: max(r.job.rate for r in jobs) for m, jobs in methods.items()}
    lines = {m: [r for r in jobs if r.job.rate == highest[m]] for m, jobs in methods.items()}
    colours, shapes = group.colours.methods(lines)
    rates = sorted(set(highest.values()))
    at = f", rate {rates[0]:g}" if len(rates) == 1 else ", each method at its highest rate"
    return _figure(group, "method", lines, colours, shapes, f"Test accuracy at the end of each round{at}")


def by_rate(group: Group, method: str, jobs: Sequence[Result]) -> Spec:
    """A line for each rate of one method."""
    rates = sorted({r.job.rate for r in jobs})
    lines = {f"{rate:g}": [r for r in jobs if r.job.rate == rate] for rate in rates}
    colours = [group.colours.rates[rate] for rate in rates]
    return _figure(group, "rate", lines, colours, [], f"Test accuracy at the end of each round: {method}")


def _figure(
    group: Group,
    what: str,
    lines: Mapping[str, Sequence[Result]],
    colours: Sequence[str],
    shapes: Sequence[str],
    title: str,
) -> Spec:
    """Accuracy at the end of each round over the units removed by then."""
    ends = [(name, r, end) for name, jobs in lines.items() for r in jobs for end in r.rounds]
    log = is_wide(1, 1 - max(float(end["sparsity"]) for _, _, end in ends))  # rounds remove a share of what is left
    samples = [
        (name, r.job.rate, float(end["round"]), 100 * abs(log - float(end["sparsity"])), float(end["test_acc"]))
        for name, r, end in ends
    ]
    points: list[Point] = pooled(samples)
    units = "units left (%)" if log else "units removed (%)"
    scale = alt.Scale(domain=list(lines), range=colours)
    shape = [alt.Shape("line:N", title=what, scale=alt.Scale(domain=list(lines), range=shapes))] if shapes else []
    values = [series.row(p) | {"line": p.method} for p in points]
    base = alt.Chart(alt.NamedData("points")).encode(_axis(log), alt.Color("line:N", title=what, scale=scale))
    lower, mean = (accuracy_axis(end, series.domain(series.reach(points))) for end in ("lower", "mean"))
    tooltip = [
        alt.Tooltip("line:N", title=what),
        alt.Tooltip("x:Q", title=units, format=".1f"),
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
        base.mark_point(filled=True, size=70, opacity=1).encode(mean, *shape, tooltip=tooltip),
    ]
    return to_spec(layers, {"points": values}, title, [group.setting, ", ".join(legend)])


def _axis(log: bool) -> alt.X:
    """Units removed in per cent, or on a log scale those left, from all of them on."""
    if not log:
        return alt.X("x:Q", title="units removed (%)", scale=alt.Scale(zero=False, nice=False, padding=14))
    scale = alt.Scale(type="log", reverse=True, nice=False, padding=14)
    ticks = alt.Axis(values=[m / 10**k for k in range(5) for m in (100, 50, 20)], format="~f")
    return alt.X("x:Q", title="units left (%), log scale", scale=scale, axis=ticks)
