"""What one pruning removed, what stayed and why, what it saves, and the proof that nothing else changed."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from torch import Size

from prunelab.channels.equivalence.certificate import Certificate
from prunelab.channels.plan import Plan
from prunelab.core.text.si_format import si_format
from prunelab.measure.profile import NetworkCost
from prunelab.measure.terminal_table import plain_text, shown, terminal_table


@dataclass(frozen=True, kw_only=True)
class Report:
    """Plain numbers by layer and of the whole network; `print(report)` shows tables."""

    rate: float  # that was asked for
    budget: str  # what it is a fraction of
    attained: float  # the fraction removed of that; of latency, as measured for networks near this one
    units: Mapping[str, tuple[int, int]]  # of each group of units: removed, all
    shapes: Mapping[str, tuple[Size, Size | None]]  # of each layer's weight: before and after; None: removed
    stays: Mapping[str, str]  # weights that keep their own channels, or some of them -> why
    certificate: Certificate
    before: NetworkCost
    after: NetworkCost
    plan: Plan  # to save the network by, and to cut copies of it alike

    def __str__(self) -> str:
        return printed(self._parts())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))  # the end of a notebook's cell

    def _parts(self) -> Iterable[RenderableType]:
        yield shown(f"{self.before.name}: removed {self.attained:.4g} of {self.budget}, {self.rate:g} was asked for")
        yield self._whole()
        yield from (shown(f"Not counted: {products}.") for products in self.before.left_out())
        yield shown(_certified(self.certificate))
        yield ""
        yield self._by_layer()
        yield from stays_because(self.stays)

    def _whole(self) -> RenderableType:
        table = terminal_table(["", "before", "after", "left"], words=("",))
        removed, units = (sum(column) for column in zip(*self.units.values(), strict=True))
        for name, was, now in (
            ("units", units, units - removed),
            ("parameters", self.before.params, self.after.params),
            ("MACs", self.before.macs, self.after.macs),
        ):
            table.add_row(name, si_format(was), si_format(now), _left(now, was))
        return table

    def _by_layer(self) -> RenderableType:
        table = terminal_table(["layer", "before", "after", "parameters left", "MACs left"], words=("layer",))
        was, now = ({layer.name: layer for layer in cost.layers} for cost in (self.before, self.after))
        for weight, (large, small) in self.shapes.items():
            name = weight.rpartition(".")[0]
            after = now.get(name) if small is not None else None
            table.add_row(
                shown(name or weight),
                _sizes(large),
                _sizes(small) if small is not None else "removed",
                _left(after.params if after else 0, was[name].params),
                _left(after.macs if after else 0, was[name].macs),
            )
        return table


def stays_because(stays: Mapping[str, str]) -> Iterable[RenderableType]:
    """A line for each reason."""
    reasons: dict[str, list[str]] = {}
    for weight, why in stays.items():
        reasons.setdefault(why, []).append(weight)
    if reasons:
        yield ""
        yield "Channels that stay:"
    for why, weights in reasons.items():
        yield shown(f"  {', '.join(weights)}: {why}")


def printed(parts: Iterable[RenderableType]) -> str:
    """As wide as the terminal, without colours."""
    return plain_text(shutil.get_terminal_size().columns, *parts)


def _certified(c: Certificate) -> str:
    float32, float64 = max(c.eval_float32, c.train_float32), max(c.eval_float64, c.train_float64)
    return (
        f"Certificate: on {c.inputs} inputs, in eval and train mode, outputs are those with the units at 0, to "
        f"{float32:.1e} of the largest in float32, {float64:.1e} in float64."
    )


def _sizes(shape: Size) -> str:
    return "x".join(map(str, shape))


def _left(now: int, before: int) -> str:
    return f"{100 * now / before:.1f} %" if before else ""
