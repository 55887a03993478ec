"""Colours and shapes are distinct, visible on white and on the dark page, and the same in every figure."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from charting import only

from prunelab.report.figures import epochs, layers, means, palette, tradeoff
from prunelab.report.figures.costs import MACS
from prunelab.report.groups import group
from prunelab.report.results import load

Add = Callable[..., Path]
PAGE = 0.011  # luminance of the dark page


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_rate_colours_get_lighter_in_order_and_stay_visible_on_white() -> None:
    shades = [luminance(colour) for colour in palette.ordered(9)]
    assert shades == sorted(set(shades))
    assert 1.05 / (shades[-1] + 0.05) > 2
    assert palette.ordered(1) == [palette.VIRIDIS[0]]


def test_no_two_of_forty_methods_look_the_same() -> None:
    marks = list(zip(*palette.categorical(["none", *(f"m{i}" for i in range(40))]), strict=True))
    assert len(set(marks)) == 41


# Machado et al. 2009: linear RGB as seen without one of three cones, and as it is.
EYES = (
    ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
)


def seen(colour: str, eye: tuple[tuple[float, ...], ...]) -> tuple[float, float, float]:
    """CIELAB under D65."""
    linear = [luminance("#" + "00" * i + colour[1 + 2 * i : 3 + 2 * i] + "00" * (2 - i)) for i in range(3)]
    rgb = [part / share for part, share in zip(linear, (0.2126, 0.7152, 0.0722), strict=True)]
    r, g, b = (min(max(sum(w * c for w, c in zip(row, rgb, strict=True)), 0), 1) for row in eye)
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def least_distance(colours: Sequence[str]) -> float:
    pairs = [(a, b) for i, a in enumerate(colours) for b in colours[:i]]
    return min(math.dist(seen(a, eye), seen(b, eye)) for a, b in pairs for eye in EYES)


def test_added_colours_are_as_far_from_all_as_those_of_okabe_and_ito_for_every_eye() -> None:
    for page in ({}, palette.DARK):
        shown = [page.get(colour, colour) for colour in (palette.UNPRUNED[0], *palette.METHODS)]
        assert least_distance(shown) >= least_distance(shown[1:7]) > 16


def test_the_dark_page_has_a_visible_colour_for_each() -> None:
    methods = ("none", *(f"m{i}" for i in range(len(palette.METHODS))))
    colours = palette.Colours(tuple(i / 10 for i in range(9)), methods)
    shades = [luminance(colours.dark[colour]) for colour in colours.rates.values()]
    assert shades == sorted(set(shades), reverse=True)
    marks = [colours.dark.get(colour, colour) for colour in colours.methods(methods)[0]]
    assert len(set(marks)) == len(methods)
    assert min([*shades, *map(luminance, marks)]) + 0.05 > 3 * (PAGE + 0.05)


def test_a_rate_and_a_method_have_one_colour_in_every_figure(add: Add) -> None:
    """In the second group alone, rate 0.8 would be the second rate, and gmp the first method."""
    for method, rate, epochs_ in (("usp", 0.0, 5), ("sp", 0.2, 5), ("sp", 0.8, 5), ("gmp", 0.0, 9), ("gmp", 0.8, 9)):
        study = add(method, rate, folder=f"{method}={rate}", comparable=str(epochs_), config={"epochs": epochs_}).parent
    results, _ = load(study)
    first, second = group(results)
    rates, methods = {}, {}
    for members in (first, second):
        specs = [draw() for name in (epochs, layers) for draw in name.charts(members).values()]
        scales = [layer["encoding"].get("color", {}).get("scale", {}) for spec in specs for layer in spec["layer"]]
        for scale in (s for s in scales if "interpolate" not in s and s):
            for rate, colour in zip(scale["domain"], scale["range"], strict=True):
                assert rates.setdefault(rate, colour) == colour
    drawn = [means.over_rate(first), means.over_rate(second), tradeoff.over_cost(results, MACS)]
    for spec in drawn:
        scale = spec["layer"][-1]["encoding"]["color"]["scale"]
        for method, colour in zip(scale["domain"], scale["range"], strict=True):
            assert methods.setdefault(method, colour) == colour
    assert len(rates) == len(set(rates.values())) == 3
    assert len(methods) == len(set(methods.values())) == 3


def test_a_group_alone_has_the_whole_range_of_colours(sweep: Path) -> None:
    assert list(only(sweep).colours.rates.values()) == palette.ordered(5)
