"""Sparsity by layer: at each rate, and over epochs."""

from functools import partial

import altair as alt

from prunelab.report.figures import palette
from prunelab.report.figures.style import FEW, Drawings, Spec, to_spec
from prunelab.report.groups import Group, slug
from prunelab.store.result import Result, read

ROW = 20  # pixels for a layer
BAR = 9  # pixels for each rate within it
TIMES = 60  # columns of a heat map at most


def charts(group: Group) -> Drawings:
    """By file name without its ending: for each method bars, and a heat map of one job at its highest rate."""
    drawings: Drawings = {}
    for method in group.methods:
        jobs = [
            r for r in group.results if r.method == method and any(layer.zeros for layer in r.sparsity.layers.values())
        ]
        if jobs:
            drawings[f"sparsity_by_layer-{slug(method)}{group.suffix}"] = partial(by_layer, group, jobs)
            if highest := max(
                (r for r in jobs if any(row.layers is not None for row in r.history)),
                key=lambda r: (r.job.rate, -r.job.seed),
                default=None,
            ):
                drawings[f"sparsity_over_time-{slug(method)}{group.suffix}"] = partial(by_time, group, highest)
    return drawings


def by_layer(group: Group, jobs: list[Result]) -> Spec:
    """Zeros of each layer as a share of its weights, over all seeds; removed weights count as zeros."""
    rates = sorted({r.job.rate for r in jobs})
    names = list(dict.fromkeys(name for r in jobs for name in r.sparsity.layers))
    rows = []
    for rate in rates:
        for name in names:
            seeds = [r.sparsity.layers[name] for r in jobs if r.job.rate == rate and name in r.sparsity.layers]
            if weights := sum(layer.weights for layer in seeds):
                sparsity = sum(layer.zeros for layer in seeds) / weights
                rows.append({"layer": _short(name), "rate": f"{rate:g}", "sparsity": sparsity, "n": len(seeds)})
    labels = [f"{rate:g}" for rate in rates]
    chart = alt.Chart(alt.NamedData("cells")).encode(
        _layers(names),
        alt.X("sparsity:Q", title="zeros of the layer's weights", scale=alt.Scale(domain=[0, 1]), axis=_percent()),
        alt.YOffset("rate:N", sort=labels),
        alt.Color(
            "rate:N", title="rate", scale=alt.Scale(domain=labels, range=[group.colours.rates[rate] for rate in rates])
        ),
        tooltip=["layer:N", "rate:N", alt.Tooltip("sparsity:Q", format=".2%"), alt.Tooltip("n:Q", title="seeds")],
    )
    height = len(names) * max(ROW, BAR * len(rates) + 6)
    title = f"Sparsity by layer: {jobs[0].method}"
    return to_spec([chart.mark_bar()], {"cells": rows}, title, [group.setting, "layers from input to output"], height)


def by_time(group: Group, result: Result) -> Spec:
    """Fraction of units removed in each layer after each epoch."""
    layers: dict[str, list[tuple[int, float]]] = {}
    for row in read(result.folder).history:  # read again, for it is most of the file and a report holds thousands
        for name, removed in (row.layers or {}).items():
            layers.setdefault(name, []).append((row.epoch, removed))
    last = max(epoch for curve in layers.values() for epoch, _ in curve)
    every = -(-last // TIMES)  # epochs in a column, which shows the last of them
    rows = [
        {"layer": name, "epoch": epoch, "from": max(0.5, epoch - every + 0.5), "to": epoch + 0.5, "removed": removed}
        for name, curve in layers.items()
        for epoch, removed in curve
        if not (last - epoch) % every
    ]
    values = alt.Undefined if last > FEW else list(range(1, last + 1))  # Vega places halves: "1 1 2 2 3"
    ticks = alt.Axis(tickMinStep=1, values=values, format="d", grid=False)
    colours = alt.Scale(domain=[0, 1], range=palette.SHADES, interpolate="rgb")
    chart = alt.Chart(alt.NamedData("cells")).encode(
        _layers(list(layers)),
        alt.X("from:Q", title="epoch", scale=alt.Scale(domain=[0.5, last + 0.5], nice=False), axis=ticks),
        alt.X2("to:Q"),
        alt.Color("removed:Q", title=["units", "removed"], scale=colours, legend=alt.Legend(format=".0%")),
        tooltip=["layer:N", "epoch:Q", alt.Tooltip("removed:Q", title="units removed", format=".2%")],
    )
    title = f"Units removed by layer over time: {result.method}, rate {result.job.rate:g}, seed {result.job.seed}"
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
