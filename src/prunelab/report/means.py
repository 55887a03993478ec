"""What accuracy is left at which rate, and at what cost? Means over seeds, a line for each method."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import altair as alt

from prunelab.report import palette, series
from prunelab.report.groups import Group
from prunelab.report.look import FEW, Drawings, Spec, accuracy_axis, cost_axis, finished
from prunelab.report.record import BATCH, Result
from prunelab.report.series import Point

CROWD = 1000  # jobs; of more, single ones are not drawn


@dataclass(frozen=True)
class Cost:
    """Something that pruning makes less; None where a job did not measure it."""

    title: str  # of figures: "... over MACs left"
    axis: str
    of: Callable[[Result], float | None]
    share: bool = False  # of the parent's, in [0, 1] or a little above


COSTS = {
    "macs": Cost("MACs left", "MACs left, per image", lambda r: r.pruned.macs),
    "bops": Cost("BOPs left", "BOPs left, per image", lambda r: r.pruned.bops),
    "bytes": Cost("bytes on disk", "bytes of the file", lambda r: r.pruned.file_bytes),
    "latency": Cost(
        "latency", f"latency of {BATCH} images, as a share of the unpruned net's", lambda r: r.latency, share=True
    ),
}
UNPRUNED = alt.Chart(alt.NamedData("unpruned")).mark_rule(strokeDash=[5, 4], color=palette.UNPRUNED[0], opacity=0.6)
# Each seed, with what asked for it; on the page a click opens its card.
JOBS = (
    alt.Chart(alt.NamedData("jobs"))
    .mark_point(size=28, opacity=0.45)
    .encode(tooltip=["job:N", alt.Tooltip("overrides:N", title="asked"), alt.Tooltip("accuracy:Q", format=".2f")])
)


def charts(group: Group) -> Drawings:
    """By file name without its ending; none of a cost that all jobs share, or that one did not measure."""
    drawn: Drawings = {f"accuracy_over_rate{group.suffix}": partial(over_rate, group)}
    for name, cost in COSTS.items():
        found = {cost.of(r) for r in group.results}
        if len(found) > 1 and None not in found:
            drawn[f"mean_accuracy_over_{name}{group.suffix}"] = partial(over_cost, group, cost)
    return drawn


def over_rate(group: Group) -> Spec:
    """Of the accuracy after the last epoch; the unpruned net's goes across, dashed."""
    points = series.over(group.results, lambda r: r.rate)
    scale = alt.Scale(nice=False, padding=14, zero=False)
    rate = alt.X("x:Q", title="rate (fraction of units removed)", scale=scale)
    if len(group.rates) <= FEW:  # the label is the rate itself: Vega's own format makes 0.98 a "1"
        rate = rate.axis(values=group.rates, labelExpr="datum.value", labelOverlap="greedy", labelFlush=False)
    return _drawn(group, points, lambda r: r.rate, rate, "Test accuracy after the last epoch, over rate", False)


def over_cost(group: Group, cost: Cost) -> Spec:
    points = series.over(group.results, lambda r: float(cost.of(r) or 0))
    x = cost_axis("x", [p.x for p in points], cost.axis, log=False)
    if cost.share:
        x = x.axis(format=".2~f", tickCount=6, labelFlush=False)
    return _drawn(group, points, cost.of, x, f"Test accuracy over {cost.title}", cost.share)


def _drawn(
    group: Group, points: list[Point], of: Callable[[Result], float | None], x: alt.X, title: str, noisy: bool
) -> Spec:
    colours, shapes = palette.categorical(group.methods)
    colour = alt.Color("method:N", title="method", scale=alt.Scale(domain=group.methods, range=colours))
    shape = alt.Shape("method:N", title="method", scale=alt.Scale(domain=group.methods, range=shapes))
    rows = [asdict(p) for p in points]
    data = {"points": rows, "unpruned": [row for row in rows if row["method"] == "none" and not row["rate"]]}
    base = alt.Chart(alt.NamedData("points")).encode(x, colour)
    lower, mean = (accuracy_axis(end, series.domain(points)) for end in ("lower", "mean"))
    thin = base.mark_line(strokeWidth=1, opacity=0.4).encode(order="rate:Q")  # it goes to and fro
    layers = [UNPRUNED.encode(mean)]
    if noisy:
        layers += [base.mark_rule(strokeWidth=1.5, clip=True).encode(lower, y2="upper:Q"), thin.encode(mean)]
    else:
        layers += [base.mark_area(opacity=0.15, clip=True).encode(lower, y2="upper:Q")]
        layers += [base.mark_line(strokeWidth=2).encode(mean)]
    several = max(group.seeds) > 1
    if several and len(group.results) <= CROWD:
        data["jobs"] = [job(r) | {"x": of(r)} for r in group.results]
        layers.append(JOBS.encode(x, accuracy_axis("accuracy", series.domain(points)), colour, shape))
    layers.append(base.mark_point(filled=True, size=70, opacity=1).encode(mean, shape, tooltip=_told(x)))
    bars = "bar" if noisy else "band"
    band = f"line: mean over seeds, {bars}: its 95 % confidence interval (Student's t)"
    faint = ", faint: single jobs" if len(group.results) <= CROWD else ""
    return finished(layers, data, title, [group.setting, *[band + faint] * several])


def job(result: Result) -> dict[str, object]:
    """What a mark says of the job that it stands for."""
    return {
        "job": result.folder.name,
        "overrides": " ".join(result.overrides),
        "method": result.method,
        "rate": result.rate,
        "accuracy": 100 * result.accuracy,
    }


def _told(x: alt.X) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("method:N"),
        alt.Tooltip("rate:Q"),
        alt.Tooltip("x:Q", title=str(x.title), format=",.4~r"),
        alt.Tooltip("mean:Q", title="test accuracy (%)", format=".2f"),
        alt.Tooltip("lower:Q", title="95 % interval from", format=".2f"),
        alt.Tooltip("upper:Q", title="to", format=".2f"),
        alt.Tooltip("n:Q", title="seeds"),
    ]
