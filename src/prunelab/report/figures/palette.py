"""Colours and shapes that every reader can tell apart on white."""

# Viridis (van der Walt and Smith, 2015), even in lightness, without its yellow end, which is invisible on white.
VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962")
# Okabe and Ito (2008), yellow left out for the same reason; their black is kept for the unpruned network.
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SHADES = ("#ffffff", VIRIDIS[2], VIRIDIS[0])  # of cells, from none to all, interpolated in RGB
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "triangle-right", "triangle-left")
UNPRUNED = ("#000000", "cross")


def ordered(n: int) -> list[str]:
    """Hex colours for n steps of an ordered quantity, dark to light, evenly spaced."""
    last = len(VIRIDIS) - 1
    return [_between(last * i / max(n - 1, 1)) for i in range(n)]


def categorical(methods: list[str]) -> tuple[list[str], list[str]]:
    """A colour and a shape for each method. With seven shapes and six colours, 42 pairs are distinct."""
    others = [method for method in methods if method != "none"]
    colours = {m: OKABE_ITO[i % len(OKABE_ITO)] for i, m in enumerate(others)}
    shapes = {m: SHAPES[i % len(SHAPES)] for i, m in enumerate(others)}
    return [colours.get(m, UNPRUNED[0]) for m in methods], [shapes.get(m, UNPRUNED[1]) for m in methods]


def _between(position: float) -> str:
    """The colour at a position along VIRIDIS, in entries from 0."""
    i = min(int(position), len(VIRIDIS) - 2)
    a, b = (bytes.fromhex(colour[1:]) for colour in VIRIDIS[i : i + 2])
    return "#" + bytes(round(x + (y - x) * (position - i)) for x, y in zip(a, b, strict=True)).hex()
