"""Colours and shapes are distinct, and visible on white."""

from prunelab.report.figures import palette


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
