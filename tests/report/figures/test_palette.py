"""Colours and shapes are distinct, visible on white and on the dark page, and the same in every figure."""

from collections.abc import Callable
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
