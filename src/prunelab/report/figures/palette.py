"""Colours and shapes that every reader can tell apart, on white and on the dark page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

# Viridis (van der Walt and Smith, 2015), even in lightness, without its yellow end, which is invisible on white.
VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962")
# Okabe and Ito (2008), yellow left out for the same reason; their black is kept for the unpruned network. Then an
# indigo and a brown, at least as far from these as they are from one another, also for those who lack one of three
# cones.
METHODS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#332288", "#6b4c1e")
SHADES = ("#ffffff", VIRIDIS[2], VIRIDIS[0])  # of cells, from none to all, interpolated in RGB
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "triangle-right", "triangle-left")
UNPRUNED = ("#000000", "cross")
# On the dark page Viridis begins where it is light enough and ends in its yellow; greys change places, and what would
# not show gets lighter.
DARK_VIRIDIS = ("#fde725", "#bddf26", "#7ad151", "#44bf70", "#22a884", "#21918c", "#3f84a3")
DARK = {
    UNPRUNED[0]: "#f2f2f2", "#555555": "#b8b8b8", "#e6e6e6": "#3d3d3d", "#dddddd": "#4a4a4a",
    "#332288": "#9850f8", "#6b4c1e": "#f0d080",
}  # fmt: skip


@dataclass(frozen=True)
class Colours:
    """One colour for one rate, and one colour and shape for one method, in every figure of a report."""

    all_rates: tuple[float, ...]  # ascending
    all_methods: tuple[str, ...]  # the unpruned `none` first

    @cached_property
    def rates(self) -> dict[float, str]:
        return dict(zip(self.all_rates, ordered(len(self.all_rates)), strict=True))

    def methods(self, shown: Iterable[str]) -> tuple[list[str], list[str]]:
        """Colours and shapes of these."""
        marks = zip(self.all_methods, *categorical(self.all_methods), strict=True)
        known = {method: (colour, shape) for method, colour, shape in marks}
        return [known[m][0] for m in shown], [known[m][1] for m in shown]

    @property
    def dark(self) -> dict[str, str]:
        """What each colour is on the dark page; those of heat maps stay."""
        shades = ordered(len(self.all_rates), DARK_VIRIDIS)
        return DARK | dict(zip(self.rates.values(), shades, strict=True))


def ordered(n: int, shades: Sequence[str] = VIRIDIS) -> list[str]:
    """Hex colours for n steps of an ordered quantity, from the first of the `shades` to the last, evenly spaced."""
    last = len(shades) - 1
    return [_between(shades, last * i / max(n - 1, 1)) for i in range(n)]


def categorical(methods: Sequence[str]) -> tuple[list[str], list[str]]:
    """A colour and a shape for each method. With seven shapes and eight colours, 56 pairs are distinct."""
    others = [method for method in methods if method != "none"]
    colours = {m: METHODS[i % len(METHODS)] for i, m in enumerate(others)}
    shapes = {m: SHAPES[i % len(SHAPES)] for i, m in enumerate(others)}
    return [colours.get(m, UNPRUNED[0]) for m in methods], [shapes.get(m, UNPRUNED[1]) for m in methods]


def _between(shades: Sequence[str], position: float) -> str:
    """The colour at a position along `shades`, in entries from 0."""
    i = min(int(position), len(shades) - 2)
    a, b = (bytes.fromhex(colour[1:]) for colour in shades[i : i + 2])
    return "#" + bytes(round(x + (y - x) * (position - i)) for x, y in zip(a, b, strict=True)).hex()
