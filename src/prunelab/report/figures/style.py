"""The style of all figures, and their files."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import altair as alt
import vl_convert

WIDTH, HEIGHT = 500, 320  # pixels of the plot; with axes and legend the picture is about 640 wide
BAND: dict[str, Any] = {"fillOpacity": 0.15, "opacity": 1}  # opacity alone makes PNGs take five times as long
FEW = 12  # points; on longer lines they are not marked
WIDE = 10  # times the least: from there on, a linear axis would crowd the small networks
Spec = dict[str, Any]  # of Vega-Lite
Rows = list[dict[str, Any]]
Drawings = dict[str, Callable[[], Spec]]


def pictures(spec: Spec) -> dict[str, bytes]:
    """The contents of its files, drawn offline; the PNG at twice the size, for high-resolution screens."""
    svg = _renumbered(vl_convert.vegalite_to_svg(json.dumps(spec)))
    return {"svg": svg.encode(), "png": vl_convert.svg_to_png(svg, scale=2.0)}


def _renumbered(svg: str) -> str:
    """Renumbers ids from 0: Vega counts over all figures of a process, and equal results must give equal files."""
    ids = dict.fromkeys(re.findall(r'id="([A-Za-z_]+)(\d+)"', svg))
    fresh = {kind + number: f"{kind}{i}" for i, (kind, number) in enumerate(ids)}
    return re.sub("|".join(sorted(fresh, key=len, reverse=True)), lambda m: fresh[m[0]], svg) if fresh else svg


def accuracy_axis(field: str, domain: tuple[float, float]) -> alt.Y:
    """For accuracies in per cent; says so when it does not begin at 0."""
    title = "test accuracy (%)" + (f", axis from {domain[0]:g} %" if domain[0] else "")
    axis = alt.Axis(tickCount=6, tickMinStep=1)
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(domain=domain, nice=False), axis=axis)


def cost_axis(field: str, costs: list[float], title: str, log: bool) -> alt.X:
    """From the least to the most, not from 0; k, M and G for thousands, millions and billions."""
    scale = alt.Scale(type="log", nice=False, padding=14) if log else alt.Scale(zero=False, nice=False, padding=14)
    axis = alt.Axis(format="~s", tickCount=6, labelFlush=False, labelOverlap="greedy")
    if log:  # Vega's default labels leave out multiples of 5 and above
        ticks = [m * 10**k for k in range(13) for m in (1, 2, 5)]
        axis["values"] = [tick for tick in ticks if min(costs) <= tick <= max(costs)]
    return alt.X(f"{field}:Q", title=title + " (log scale)" * log, scale=scale, axis=axis)


def is_wide(most: float, least: float) -> bool:
    """Whether costs, or what is left, reach so far that they call for a log scale. 1 - 0.9 is not exactly a tenth."""
    return most >= WIDE * least * (1 - 1e-9)


def rate_axis(field: str, rates: list[float], log: bool, of: str) -> alt.X:
    """Ascending rates; with `log` the field holds 1 - rate, as from 0.9 to 0.95 half of the network goes.

    `of` says what they are fractions of; "" says nothing.
    """
    title = "rate" + f" (fraction of {of} removed)" * bool(of) + ", log scale of what is left" * log
    kind = {"type": "log", "reverse": True} if log else {"zero": False}
    x = alt.X(f"{field}:Q", title=title, scale=alt.Scale(nice=False, padding=14, **kind))
    if not log and len(rates) > FEW:
        return x
    # Labels are the rates themselves: Vega's default format rounds 0.98 to 1.
    values = ([1 - rate for rate in rates] if log else rates) if len(rates) <= FEW else alt.Undefined
    label = "format(1 - datum.value, '.6~f')" if log else "datum.value"
    return x.axis(values=values, labelExpr=label, labelOverlap="greedy", labelFlush=False)


def to_spec(
    layers: list[alt.Chart], rows: Mapping[str, Rows], title: str, subtitle: list[str], height: int = HEIGHT
) -> Spec:
    """On plain white. Layers name their data; the `rows` are added last, as Altair takes seconds for thousands."""
    heading = alt.TitleParams(title, subtitle=[line for line in subtitle if line], anchor="start", offset=14)
    chart = alt.layer(*layers, width=WIDTH, height=height, title=heading, background="white", padding=10)
    spec = chart.configure(
        axis=alt.AxisConfig(
            labelFontSize=12, titleFontSize=13, titleFontWeight="normal", gridColor="#e6e6e6", labelLimit=0
        ),
        legend=alt.LegendConfig(
            labelLimit=0, labelFontSize=12, titleFontSize=13, titleFontWeight="normal", symbolOpacity=1
        ),
        title=alt.TitleConfig(fontSize=15, subtitleFontSize=12, subtitlePadding=5),
        view=alt.ViewConfig(stroke=None),
    ).to_dict(validate=False)  # which takes 0.2 s; a test does it
    return spec | {"datasets": dict(rows)}
