"""Pruning a trained network without retraining: accuracy over rates, with knees, and sensitivity by layer."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import altair as alt

from prunelab.report.figures import palette, series
from prunelab.report.figures.style import Drawings, Spec, accuracy_axis, to_spec
from prunelab.report.groups import Group, slug
from prunelab.report.pareto import settings
from prunelab.store.result import Result

CURVES = {"accuracy": "running statistics as trained", "reestimated": "running statistics re-estimated"}
ROW = 20  # pixels for a layer in the map
DARK = 0.6  # of the range of accuracies: below it numbers are white


def charts(results: Sequence[Result]) -> Drawings:
    """By file name without its ending: the scans and sensitivities of all jobs that have some."""
    drawings: Drawings = {}
    for suffix, job in _named([r for r in results if r.scan]):
        assert job.scan
        drawings[f"scan{suffix}"] = partial(over_rates, job)
        for window in job.scan["windows"]:
            drawings[f"scan-{window[0]:g}_to_{window[1]:g}{suffix}"] = partial(over_rates, job, window)
    for suffix, job in _named([r for r in results if r.sensitivity]):
        drawings[f"sensitivity{suffix}"] = partial(over_layers, job, "layers")
        if job.sensitivity and job.sensitivity["reestimated"]:
            drawings[f"sensitivity-reestimated{suffix}"] = partial(over_layers, job, "reestimated")
    return drawings


def _named(jobs: list[Result]) -> list[tuple[str, Result]]:
    """Each job with the settings that tell it apart, and a number where they are not enough."""
    names = [slug(settings(job, jobs).replace(" ", ",")) for job in jobs]
    if len(set(names)) < len(names):
        names = [f"{name},{i}" for i, name in enumerate(names, start=1)]
    return [(f"-{name}" if name else "", job) for name, job in zip(names, jobs, strict=True)]


def over_rates(job: Result, window: Sequence[float] | None = None) -> Spec:
    """A line for running statistics as trained and one for re-estimated ones; of the rates in `window` only."""
    assert job.scan
    low, high = window or (0.0, 1.0)
    rows = [row for row in _rows(job.scan) if low <= row["rate"] <= high]
    curves = [name for key, name in CURVES.items() if job.scan[key]]
    colours, shapes = palette.categorical(curves)
    colour = alt.Color("curve:N", title=None, scale=alt.Scale(domain=curves, range=colours))
    shape = alt.Shape("curve:N", title=None, scale=alt.Scale(domain=curves, range=shapes))
    title = "rate (fraction of units removed), without retraining"
    x = alt.X("rate:Q", title=title, scale=alt.Scale(domain=[low, high], nice=False, padding=8))
    y = accuracy_axis("accuracy", series.domain([row["accuracy"] for row in rows]))
    base = alt.Chart(alt.NamedData("points")).encode(x, y, colour)
    knees = base.transform_filter("datum.knee")
    tooltip = [
        alt.Tooltip("curve:N"),
        alt.Tooltip("rate:Q"),
        alt.Tooltip("accuracy:Q", title="test accuracy (%)", format=".2f"),
    ]
    layers = [base.mark_line(strokeWidth=2, clip=True)]
    if window:
        layers.append(base.mark_point(filled=True, size=25, opacity=1).encode(shape, tooltip=tooltip))
    else:
        # Windows, which have charts of their own, are shaded.
        shade = alt.Chart(alt.NamedData("windows")).mark_rect(color="#dddddd", opacity=0.6)
        layers = [shade.encode(x, x2="end:Q"), *layers, base.mark_point(size=25, opacity=0).encode(tooltip=tooltip)]
    layers += [
        knees.mark_point(filled=True, size=110, opacity=1, stroke="black").encode(shape, tooltip=tooltip),
        *_labels(knees, curves[0], beside=(job.scan["knee"]["accuracy"] or 0.0) > low + 0.2 * (high - low)),
    ]
    what = f"rates {low:g} to {high:g}" if window else "all rates"
    data = {"points": rows, "windows": [{"rate": at, "end": end} for at, end in job.scan["windows"]]}
    title = f"Test accuracy without retraining, {what}"
    words = [*_subtitle(job, job.scan, reestimated=len(curves) > 1), _knee(job.scan)]
    spec = to_spec(layers, data, title, words)
    legend = {"orient": "bottom", "direction": "vertical", "labelLimit": 0, "labelFontSize": 12}
    return spec | {"config": spec["config"] | {"legend": legend}}


def _labels(knees: alt.Chart, lower: str, beside: bool) -> list[alt.Chart]:
    """The lower line's label is below it, clear of the upper line, and left of it where there is space `beside`."""
    below, above = (knees.transform_filter(f"datum.curve {is_it} '{lower}'") for is_it in ("==", "!="))
    align: Literal["left", "right"] = "right" if beside else "left"
    texts = [
        below.mark_text(align=align, dx=-6 if beside else 6, dy=22, fontSize=12),
        above.mark_text(align="left", dx=6, dy=-19, fontSize=12),
    ]
    return [text.encode(text="label:N") for text in texts]


def _rows(scan: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "rate": rate,
            "accuracy": 100 * accuracy,
            "curve": name,
            "knee": rate == scan["knee"][key],
            "label": f"knee at {rate:.4g}",
        }
        for key, name in CURVES.items()
        for rate, accuracy in zip(scan["rates"], scan[key] or [], strict=False)
    ]


def _knee(scan: dict[str, Any]) -> str:
    points = 100 * scan["tolerance"]
    return f"knee: the last rate up to which accuracy drops by no more than {points:g} point{'s' * (points != 1)}"


def _subtitle(job: Result, analysis: dict[str, Any], reestimated: bool) -> list[str]:
    parts = f"{analysis['granularity']} by {analysis['criterion']}, {analysis['allocation']}"
    images = f"; statistics of {analysis['statistics_from']:,} training images" if reestimated else ""
    scene = Group((job,)).scene.replace(", 0 epochs", ", weights as given")
    return [f"{scene}; {parts}", f"n = {analysis['n']:,} test images{images}"]


def over_layers(job: Result, what: Literal["layers", "reestimated"]) -> Spec:
    """Layers down, rates across; at the first rate, 0, all rows are the unpruned network."""
    assert job.sensitivity
    analysis = job.sensitivity
    names = {layer: layer.removeprefix("net.").removesuffix(".weight") for layer in analysis["layers"]}
    rows = [
        {"layer": names[layer], "rate": f"{rate:g}", "accuracy": 100 * accuracy}
        for layer, accuracies in analysis[what].items()
        for rate, accuracy in zip(analysis["rates"], accuracies, strict=True)
    ]
    every = [row["accuracy"] for row in rows]
    least, most = min(every), max(every)
    x = alt.X("rate:O", title="rate in this layer alone", sort=None, axis=alt.Axis(labelAngle=0))
    y = alt.Y("layer:N", title=None, sort=list(names.values()))
    scale = alt.Scale(domain=[least, most], range=list(palette.VIRIDIS), interpolate="rgb")
    legend = alt.Legend(title=["test", "accuracy (%)"])
    white = f"datum.accuracy <= {least + DARK * (most - least)}"
    colour = alt.condition(white, alt.value("white"), alt.value("black"))
    tooltip = [
        alt.Tooltip("layer:N"),
        alt.Tooltip("rate:O"),
        alt.Tooltip("accuracy:Q", title="test accuracy (%)", format=".2f"),
    ]
    base = alt.Chart(alt.NamedData("cells")).encode(x, y, tooltip=tooltip)
    layers = [
        base.mark_rect().encode(alt.Color("accuracy:Q", scale=scale, legend=legend)),
        base.mark_text(fontSize=10).encode(text=alt.Text("accuracy:Q", format=".1f"), color=colour),
    ]
    title = "Test accuracy with one layer pruned alone, without retraining"
    words = _subtitle(job, analysis, reestimated=what == "reestimated")
    return to_spec(layers, {"cells": rows}, title, words, ROW * len(names))
