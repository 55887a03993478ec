"""Sparsity by layer: at each rate, and over epochs."""

from functools import partial

import altair as alt

from prunelab.report.figures import palette
from prunelab.report.figures.style import Drawings, Spec, to_spec
from prunelab.report.groups import Group, slug
from prunelab.store.result import Result, over_time

ROW = 20  # pixels for a layer
BAR = 9  # pixels for each rate within it
TIMES = 60  # columns of a heat map at most


def charts(group: Group) -> Drawings:
    """By file name without its ending: for each method bars, and a heat map of one job at its highest rate."""
    drawings: Drawings = {}
    for method in group.methods:
        jobs = [r for r in group.results if r.method == method and any(zeros for zeros, _ in r.layers.values())]
        if jobs:
            drawings[f"sparsity_by_layer-{slug(method)}{group.suffix}"] = partial(by_layer, group, jobs)
            if highest := max((r for r in jobs if r.layers_in_time), key=lambda r: (r.rate, -r.seed), default=None):
                drawings[f"sparsity_over_time-{slug(method)}{group.suffix}"] = partial(by_time, group, highest)
    return drawings


def by_layer(group: Group, jobs: list[Result]) -> Spec:
    """Zeros of each layer as a share of its weights, over all seeds; removed weights count as zeros."""
    rates = sorted({r.rate for r in jobs})
    names = list(dict.fromkeys(name for r in jobs for name in r.layers))
    rows = []
    for rate in rates:
        for name in names:
            counts = [r.layers[name] for r in jobs if r.rate == rate and name in r.layers]
            zeros, weights = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
            if weights:
                rows.append({"layer": _short(name), "rate": f"{rate:g}", "sparsity": zeros / weights, "n": len(counts)})
    labels = [f"{rate:g}" for rate in rates]
    chart = alt.Chart(alt.NamedData("cells")).encode(
        _layers(names),
        alt.X("sparsity:Q", title="zeros of the layer's weights", scale=alt.Scale(domain=[0, 1]), axis=_percent()),
        alt.YOffset("rate:N", sort=labels),
        alt.Color("rate:N", title="rate", scale=alt.Scale(domain=labels, range=palette.ordered(len(labels)))),
        tooltip=["layer:N", "rate:N", alt.Tooltip("sparsity:Q", format=".2%"), alt.Tooltip("n:Q", title="seeds")],
    )
    height = len(names) * max(ROW, BAR * len(rates) + 6)
    title = f"Sparsity by layer: {jobs[0].method}"
    return to_spec([chart.mark_bar()], {"cells": rows}, title, [group.setting, "layers from input to output"], height)


def by_time(group: Group, result: Result) -> Spec:
    """Fraction of units removed in each layer after each epoch."""
    layers = over_time(result.folder)
    last = max(epoch for curve in layers.values() for epoch, _ in curve)
    every = -(-last // TIMES)  # epochs in a column, which shows the last of them
    rows = [
        {"layer": name, "epoch": epoch, "from": max(0.5, epoch - every + 0.5), "to": epoch + 0.5, "removed": removed}
        for name, curve in layers.items()
        for epoch, removed in curve
        if not (last - epoch) % every
    ]
    ticks = alt.Axis(tickMinStep=1, format="d", grid=False)
    colours = alt.Scale(domain=[0, 1], range=palette.SHADES, interpolate="rgb")
    chart = alt.Chart(alt.NamedData("cells")).encode(
        _layers(list(layers)),
        alt.X("from:Q", title="epoch", scale=alt.Scale(domain=[0.5, last + 0.5], nice=False), axis=ticks),
        alt.X2("to:Q"),
        alt.Color("removed:Q", title=["units", "removed"], scale=colours, legend=alt.Legend(format=".0%")),
        tooltip=["layer:N", "epoch:Q", alt.Tooltip("removed:Q", title="units removed", format=".2%")],
    )
    title = f"Units removed by layer over time: {result.method}, rate {result.rate:g}, seed {result.seed}"
    return to_spec(
        [chart.mark_rect()], {"cells": rows}, title, [group.scene, "layers from input to output"], len(layers) * ROW
    )


def _layers(names: list[str]) -> alt.Y:
    order = [_short(name) for name in names]
    return alt.Y("layer:N", title=None, sort=order, axis=alt.Axis(grid=False))


def _short(name: str) -> str:
    return name.removesuffix(".weight")


def _percent() -> alt.Axis:
    return alt.Axis(format=".0%", tickCount=6)
