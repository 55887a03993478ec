"""Overlap of masks between seeds and methods: intersection over union (IoU) of the kept weights."""

import json
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import numpy as np
from safetensors import SafetensorError, safe_open

from prunelab.report.figures import palette
from prunelab.report.figures.style import Drawings, Spec, to_spec
from prunelab.report.groups import Group, slug
from prunelab.store.result import Result

MASKS = Path("masks", "last.safetensors")  # in a job's folder
MOST = 24  # jobs in a matrix
CELL = 26  # pixels


class Mask(NamedTuple):
    bits: np.ndarray  # eight weights a byte, 1: kept
    weights: int


Masks = dict[str, Mask]


def charts(group: Group) -> Drawings:
    """By file name without its ending: a matrix for each rate with the masks of two to MOST jobs."""
    drawings: Drawings = {}
    for rate in group.rates:
        jobs = [r for r in group.results if r.job.rate == rate > 0 and (r.folder / MASKS).exists()]
        if 2 <= len(jobs) <= MOST:
            drawings[f"mask_overlap-rate={slug(f'{rate:g}')}{group.suffix}"] = partial(matrix, group, jobs)
    return drawings


def crowded(group: Group) -> list[float]:
    """Rates with more jobs than a matrix shows."""
    return [rate for rate in group.rates if rate and sum(r.job.rate == rate for r in group.results) > MOST]


def matrix(group: Group, jobs: list[Result]) -> Spec:
    """The IoU of every pair of jobs; see `chance` for that of unrelated masks."""
    jobs = sorted(jobs, key=lambda r: (group.methods.index(r.method), r.job.seed))
    names = [f"seed {r.job.seed}, {r.method}" for r in jobs]
    masks = [read(r.folder / MASKS) for r in jobs]
    rows: list[dict[str, Any]] = []
    for (i, a), (j, b) in product(enumerate(masks), repeat=2):
        share = iou(a, b)
        if share is not None:
            rows.append({"a": names[i], "b": names[j], "iou": share, "chance": chance(a, b)})
    base = alt.Chart(alt.NamedData("pairs")).encode(
        alt.X("a:N", title=None, sort=names, axis=alt.Axis(labelAngle=-45)),
        alt.Y("b:N", title=None, sort=names),
        tooltip=[
            "a:N",
            "b:N",
            alt.Tooltip("iou:Q", format=".3f"),
            alt.Tooltip("chance:Q", title="by chance", format=".3f"),
        ],
    )
    colours = alt.Scale(domain=[0, 1], range=palette.SHADES, interpolate="rgb")
    cells = base.mark_rect().encode(alt.Color("iou:Q", title="IoU", scale=colours))
    numbers = base.mark_text(fontSize=10).encode(
        alt.Text("iou:Q", format=".2f"), color=alt.condition("datum.iou > 0.45", alt.value("white"), alt.value("black"))
    )
    between = sorted(f"{row['chance']:.2f}" for row in rows if row["a"] != row["b"])
    spread = " to ".join(dict.fromkeys(between[:1] + between[-1:])) or "-"
    note = f"kept weights in both / in either; unrelated masks as dense in each layer: {spread}"
    title = f"Overlap of masks at rate {jobs[0].job.rate:g}"
    return to_spec(
        [cells, numbers] if len(jobs) <= MOST // 2 else [cells],
        {"pairs": rows},
        title,
        [group.scene, note],
        CELL * len(jobs),
    )


def read(path: Path) -> Masks:
    """By layer. Raises ValueError for a damaged file."""
    try:
        with safe_open(path, "np") as file:
            shapes = json.loads(file.metadata()["shapes"])
            masks = {name: file.get_tensor(name) for name in sorted(shapes)}
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a complete file of masks: {error}") from error
    return {name: Mask(bits, int(np.prod(shapes[name]))) for name, bits in masks.items()}


def iou(a: Masks, b: Masks) -> float | None:
    """In [0, 1]; None for masks of different networks, and where neither keeps a weight."""
    if not alike(a, b):
        return None
    both, either = (
        sum(_kept(join(a[name].bits, b[name].bits)) for name in a) for join in (np.bitwise_and, np.bitwise_or)
    )
    return both / either if either else None


def chance(a: Masks, b: Masks) -> float:
    """The expected IoU of random masks as dense in each layer as these, which are of the same network."""
    both = either = 0.0
    for name, mask in a.items():
        p, q = (_kept(layer.bits) / layer.weights for layer in (mask, b[name]))
        both += mask.weights * p * q
        either += mask.weights * (p + q - p * q)
    return both / either if either else 0.0


def alike(a: Masks, b: Masks) -> bool:
    return {name: mask.weights for name, mask in a.items()} == {name: mask.weights for name, mask in b.items()}


def _kept(bits: np.ndarray) -> int:
    return int(np.unpackbits(bits).sum())
