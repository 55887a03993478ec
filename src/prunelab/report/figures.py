"""How does accuracy depend on training time and on rate? The charts of a sweep."""

import io
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Literal

import altair as alt

from prunelab.report import palette, series
from prunelab.report.groups import Group, slug
from prunelab.report.series import Point

WIDTH, HEIGHT = 500, 320  # pixels of the plot; with axis and legend the picture is about 640 wide
FEW = 12  # points of a line that are each marked
Drawings = dict[str, Callable[[], alt.LayerChart]]
Format = Literal["png", "svg"]
FORMATS: tuple[Format, ...] = ("png", "svg")


def charts(group: Group) -> Drawings:
    """What draws each chart of a group, by file name without its ending: one may fail, and not the others."""
    if group.scattered:
        return {}  # lines of one point
    drawn: Drawings = {f"accuracy_over_rate{group.suffix}": partial(over_rate, group)}
    for method in dict.fromkeys(p.method for p in series.over_epochs(group.results)):
        drawn[f"accuracy_over_epochs-{slug(method)}{group.suffix}"] = partial(over_epochs, group, method)
    return drawn


def render(chart: alt.LayerChart, form: Format) -> bytes:
    """The picture as a file's content, drawn offline; PNG at twice the size, for sharp screens."""
    file = io.BytesIO() if form == "png" else io.StringIO()
    chart.save(file, format=form, scale_factor=2 if form == "png" else 1)
    content = file.getvalue()
    return content if isinstance(content, bytes) else content.encode()


def over_epochs(group: Group, method: str) -> alt.LayerChart:
    """A line per rate. All methods of a group share colours and axes, so that their figures compare."""
    every = series.over_epochs(group.results)
    points = [p for p in every if p.method == method]
    names = {rate: f"{rate:g}" for rate in sorted({p.rate for p in points})}
    colours = dict(zip(group.rates, palette.ordered(len(group.rates)), strict=True))
    scale = alt.Scale(domain=list(names.values()), range=[colours[rate] for rate in names])
    colour = alt.Color("line:N", title="rate", scale=scale)
    last = max(p.x for p in every)
    epoch = alt.X("x:Q", title="epoch", scale=alt.Scale(domain=[1, last], nice=False, padding=10))
    epoch = epoch.axis(tickMinStep=1, tickCount=10, format="d", labelFlush=False)
    base = _base(points, [names[p.rate] for p in points], epoch, colour)
    layers = _lines(base, series.domain(every))
    if last <= FEW:
        layers.append(base.mark_point(filled=True, size=30, opacity=1).encode(layers[-1].encoding.y))
    return finished(layers, f"Test accuracy over epochs: {method}", _subtitle(group))


def over_rate(group: Group) -> alt.LayerChart:
    """A line per method, of the accuracy after the last epoch; the unpruned net's goes across, dashed."""
    points = series.over_rates(group.results)
    colours, shapes = palette.categorical(group.methods)
    colour = alt.Color("line:N", title="method", scale=alt.Scale(domain=group.methods, range=colours))
    shape = alt.Shape("line:N", title="method", scale=alt.Scale(domain=group.methods, range=shapes))
    scale = alt.Scale(nice=False, padding=14, zero=False)
    rate = alt.X("x:Q", title="rate (fraction of units removed)", scale=scale)
    if len(group.rates) <= FEW:  # the label is the rate itself: Vega's own format makes 0.98 a "1"
        rate = rate.axis(values=group.rates, labelExpr="datum.value", labelOverlap="greedy", labelFlush=False)
    base = _base(points, [p.method for p in points], rate, colour)
    layers = _lines(base, series.domain(points))
    y = layers[-1].encoding.y
    unpruned = alt.Chart(alt.Data(values=[asdict(p) for p in points if p.method == "none" and not p.rate]))
    layers.insert(0, unpruned.mark_rule(strokeDash=[5, 4], color=palette.UNPRUNED[0], opacity=0.6).encode(y))
    if max(group.seeds) > 1:  # a band has no width where a method has one rate
        layers.append(base.mark_rule(strokeWidth=2).encode(layers[-2].encoding.y, y2="high:Q"))
    layers.append(base.mark_point(filled=True, size=70, opacity=1).encode(y, shape))
    return finished(layers, "Test accuracy after the last epoch, over rate", _subtitle(group))


def _base(points: list[Point], lines: list[str], x: alt.X, colour: alt.Color) -> alt.Chart:
    values = [asdict(p) | {"line": line} for p, line in zip(points, lines, strict=True)]
    return alt.Chart(alt.Data(values=values)).encode(x, colour)


def _lines(base: alt.Chart, domain: tuple[float, float]) -> list[alt.Chart]:
    """A band from the lowest to the highest seed, and on it the mean."""
    low, mean = (accuracy_axis(end, domain) for end in ("low", "mean"))
    return [base.mark_area(opacity=0.18).encode(low, y2="high:Q"), base.mark_line(strokeWidth=2).encode(mean)]


def accuracy_axis(field: str, domain: tuple[float, float]) -> alt.Y:
    """For accuracies in per cent; says so when it does not begin at 0."""
    title = "test accuracy (%)" + (f", axis from {domain[0]:g} %" if domain[0] else "")
    axis = alt.Axis(tickCount=6, tickMinStep=1)
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(domain=domain, nice=False), axis=axis)


def _subtitle(group: Group) -> list[str]:
    seeds = ["line: mean over seeds, band: lowest to highest"] if max(group.seeds) > 1 else []
    return [group.setting, *seeds]


def finished(layers: list[alt.Chart], title: str, subtitle: list[str]) -> alt.LayerChart:
    """A plain white look."""
    heading = alt.TitleParams(title, subtitle=subtitle, anchor="start", offset=14)
    chart = alt.layer(*layers, width=WIDTH, height=HEIGHT, title=heading, background="white", padding=10)
    return chart.configure(
        axis=alt.AxisConfig(labelFontSize=12, titleFontSize=13, titleFontWeight="normal", gridColor="#e6e6e6"),
        legend=alt.LegendConfig(
            labelLimit=360, labelFontSize=12, titleFontSize=13, titleFontWeight="normal", symbolOpacity=1
        ),
        title=alt.TitleConfig(fontSize=15, subtitleFontSize=12, subtitlePadding=5),
        view=alt.ViewConfig(stroke=None),
    )
