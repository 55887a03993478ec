"""The costs of a network and its layers, printed as tables."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from prunelab.core.text.si_format import si_format
from prunelab.measure.terminal_table import fits, plain_text, terminal_table


@dataclass(frozen=True, kw_only=True)
class Counts:
    """MACs and BOPs are of one input.

    BOPs = MACs x weight bits x activation bits, for each call, by the types of the weights and the activations:
    float32 32, bfloat16 16, int8 8. Effective ones leave out products whose weight is 0.
    """

    params: int = 0
    nonzero: int = 0
    macs: int = 0
    effective_macs: int = 0
    bops: int = 0
    effective_bops: int = 0

    @property
    def sparsity(self) -> float:
        """Zeros among all parameters, including biases and norms: in [0, 1]."""
        return (self.params - self.nonzero) / self.params if self.params else 0.0


@dataclass(frozen=True, kw_only=True)
class Layer(Counts):
    """A module that has its own parameters or multiplies."""

    name: str
    kind: str
    weight_bits: int | None  # None without products; the widest of several calls
    activation_bits: int | None


@dataclass(frozen=True)
class Pass:
    """A forward pass in eval mode, without gradients."""

    batch: int
    seconds: float  # median
    lower: float  # quartiles, seconds
    upper: float
    peak_bytes: int | None  # besides the network and its input; None if unknown (Profile.memory)


@dataclass(frozen=True, kw_only=True)
class NetworkCost(Counts):
    """Of a network; MACs and BOPs are those of layers with weights. A shared parameter is counted once.

    `uncounted` are MACs of one input outside layers, by module ("" is the network itself): attention, `matmul`. They
    are in no other number. `unseen` names weights with two or more dimensions that no counted product used; `packed`
    those that are no parameters, which are in `bytes` alone.
    """

    name: str
    bytes: int  # parameters and buffers, as stored
    footprint_bits: int  # non-zeros x bits of each
    layers: tuple[Layer, ...]
    uncounted: dict[str, int]
    unseen: tuple[str, ...]
    packed: tuple[str, ...] = ()
    passes: tuple[Pass, ...] = ()

    def left_out(self) -> Iterator[str]:
        """What is in none of these MACs, in words."""
        if names := [name or self.name for name in self.uncounted]:
            yield f"{si_format(sum(self.uncounted.values()))} MACs outside layers, in {_few(names)}"
        if self.unseen:
            yield f"any products with {_few(self.unseen)}"
        if self.packed:
            yield f"weights that are no parameters, and their products: {_few(self.packed)}"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more


@dataclass(frozen=True)
class Profile:
    """Plain numbers: `json.dumps(dataclasses.asdict(profile))`. `print(profile)` and rich show tables."""

    net: NetworkCost
    dense: NetworkCost | None
    device: str
    threads: int  # of PyTorch, on the CPU
    conditions: str  # of passes: precision, and whether compiled
    rounds: int  # of passes, in which the networks take turns
    memory: str  # how peak_bytes was measured

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from page(self, console, options.max_width)

    def __str__(self) -> str:
        return text(self, shutil.get_terminal_size().columns)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))  # the end of a notebook's cell


Row = tuple[Layer, Layer | None]  # and the same one of the dense network
Column = Callable[[Layer, Layer | None], str]

COUNTS: dict[str, Callable[[NetworkCost], float]] = {
    "parameters": lambda c: c.params,
    "non-zeros": lambda c: c.nonzero,
    "MACs, dense": lambda c: c.macs,
    "MACs, effective": lambda c: c.effective_macs,
    "BOPs, dense": lambda c: c.bops,
    "BOPs, effective": lambda c: c.effective_bops,
}
SIZES: dict[str, Callable[[NetworkCost], float]] = {
    "bytes, stored": lambda c: c.bytes,
    "bytes, footprint": lambda c: c.footprint_bits / 8,
}
COLUMNS: dict[str, Column] = {
    "layer": lambda a, _: a.name or "(the network itself)",
    "kind": lambda a, _: a.kind,
    "bits": lambda a, _: f"{a.weight_bits} x {a.activation_bits}" if a.weight_bits else "",
    "parameters": lambda a, _: si_format(a.params),
    "non-zeros": lambda a, _: si_format(a.nonzero),
    "non-zeros left": lambda a, b: _left(a.nonzero, b.nonzero) if b else "",
    "sparsity": lambda a, _: f"{a.sparsity:.3f}",
    "MACs": lambda a, _: si_format(a.macs),
    "effective MACs": lambda a, _: si_format(a.effective_macs),
    "effective BOPs": lambda a, _: si_format(a.effective_bops),
    "MACs left": lambda a, b: _left(a.effective_macs, b.effective_macs) if b else "",
}
COMPARED = ("non-zeros left", "MACs left")
WORDS = ("layer", "kind")  # the others are numbers
FEW = 3  # names in a sentence
SPARE = ("effective BOPs", "kind", "parameters", "MACs")  # dropped in this order on a narrow terminal


def text(profile: Profile, width: int) -> str:
    """Without colours, no line longer than `width`."""
    return plain_text(width, profile)


def page(profile: Profile, console: Console, width: int) -> Iterator[Table | Text]:
    yield Text(_heading(profile), style="bold")
    yield from (_whole(profile), Text())
    yield from (_by_layer(profile, console, width), Text())
    yield from (Text(note, style="dim") for note in _notes(profile))
    yield from (Text(caution, style="yellow") for caution in _cautions(profile))


def _heading(profile: Profile) -> str:
    beside = f" beside its dense network, {profile.dense.name}" if profile.dense else ""
    return f"{profile.net.name}{beside}, on {profile.device}, {_threads(profile.threads)}"


def _threads(n: int) -> str:
    return f"{n} thread" if n == 1 else f"{n} threads"


def _whole(profile: Profile) -> Table:
    nets = [profile.net] if profile.dense is None else [profile.net, profile.dense]
    table = terminal_table(["", "this", "dense", "this / dense"][: 2 * len(nets)], words=("",), two_lines=False)
    for name, of in COUNTS.items():
        table.add_row(name, *_cells([of(c) for c in nets], si_format))
        if name == "non-zeros":
            table.add_row("sparsity", *(f"{c.sparsity:.3f}" for c in nets))
    for name, of in SIZES.items():
        table.add_row(name, *_cells([of(c) for c in nets], si_format))
    for passes in zip(*(c.passes for c in nets), strict=True):
        for row in _at(passes):
            table.add_row(*row)
    return table


def _at(passes: Sequence[Pass]) -> Iterator[list[str]]:
    """The rows of one batch size."""
    yield [f"seconds, batch {passes[0].batch}", *_cells([p.seconds for p in passes], _seconds)]
    yield ["  quartiles", *(_range(p.lower, p.upper) for p in passes)]
    peaks = [p.peak_bytes for p in passes if p.peak_bytes is not None]
    if len(peaks) == len(passes):
        yield [f"peak bytes, batch {passes[0].batch}", *_cells(peaks, si_format)]


def _cells(values: Sequence[float], shown: Callable[[float], str]) -> list[str]:
    compared = [_left(values[0], values[1])] if len(values) == 2 else []
    return [shown(value) for value in values] + compared


def _seconds(s: float) -> str:
    unit, scale = _unit(s)
    return f"{s * scale:.3g} {unit}"


def _range(lower: float, upper: float) -> str:
    """Both in the unit of the upper one: 0.9 - 12.3 ms."""
    unit, scale = _unit(upper)
    return f"{lower * scale:.3g} - {upper * scale:.3g} {unit}"


def _unit(s: float) -> tuple[str, float]:
    return ("s", 1.0) if s >= 1 else ("ms", 1e3) if s >= 1e-3 else ("us", 1e6)


def _left(now: float, before: float) -> str:
    return f"{100 * now / before:.1f} %" if before else ""


def _by_layer(profile: Profile, console: Console, width: int) -> Table:
    """A row for each layer that multiplies, and the sum of the others. Columns are dropped until it fits `width`."""
    rows, names = list(_rows(profile)), list(COLUMNS)
    if len({_bits(row) for row, _ in rows if row.weight_bits}) < 2:
        names.remove("bits")  # as a note gives them
    names = [n for n in names if profile.dense is not None or n not in COMPARED]
    for spare in SPARE:
        if fits(_layer_table(rows, names), console, width):
            break
        names.remove(spare)
    return _layer_table(rows, names)


def _layer_table(rows: Sequence[Row], names: Sequence[str]) -> Table:
    table = terminal_table(names, WORDS)
    for layer, dense in rows:
        table.add_row(*(Text(COLUMNS[name](layer, dense)) for name in names))
    return table


def _bits(layer: Layer) -> tuple[int | None, int | None]:
    return layer.weight_bits, layer.activation_bits


def _rows(profile: Profile) -> Iterator[Row]:
    layers, unpruned = profile.net.layers, profile.dense.layers if profile.dense else ()
    dense: Mapping[str, Layer] = {layer.name: layer for layer in unpruned}
    yield from ((layer, dense.get(layer.name)) for layer in layers if layer.macs)
    if others := [layer for layer in layers if not layer.macs]:
        yield _sum(others), _sum([layer for layer in unpruned if not layer.macs]) if unpruned else None


def _sum(others: Sequence[Layer]) -> Layer:
    params, nonzero = sum(layer.params for layer in others), sum(layer.nonzero for layer in others)
    return Layer(
        name="all others", kind="norms, ...", params=params, nonzero=nonzero, weight_bits=None, activation_bits=None
    )


def _notes(profile: Profile) -> Iterator[str]:
    net = profile.net
    yield "MACs and BOPs: of one input, in layers with weights; effective: without products whose weight is 0."
    bits = sorted({f"{x.weight_bits} x {x.activation_bits}" for x in net.layers if x.weight_bits})
    yield f"BOPs = MACs x weight bits x activation bits ({', '.join(bits)}). Footprint: non-zeros x their bits."
    turns = f"median of {profile.rounds} passes in {profile.conditions}, networks in turn"
    yield f"Seconds: {turns}. Peak: {profile.memory}."


def _cautions(profile: Profile) -> Iterator[str]:
    """What the numbers leave out."""
    net = profile.net
    if profile.dense and (removed := _removed(net, profile.dense)):
        yield f"Layers of the dense network that were removed: {', '.join(removed)}."
    for costs in (net, *([profile.dense] if profile.dense else [])):
        which = "" if costs is net else " in the dense network"
        yield from (f"Not counted{which}: {products}." for products in costs.left_out())


def _removed(net: NetworkCost, dense: NetworkCost) -> list[str]:
    """Layers of which nothing is left, neither of that name nor below it."""
    left = [f"{name}." for name in (*(layer.name for layer in net.layers), *net.packed)]
    return [a.name for a in dense.layers if a.macs and not any(name.startswith(f"{a.name}.") for name in left)]
