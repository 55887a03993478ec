"""Finds the channels that a network cannot lose before it is trained: part of each group is cut from a copy."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from prunelab.channels.equivalence.certificate import MODES, TOLERANCE, EquivalenceError, difference, outputs
from prunelab.channels.equivalence.trial import copied, mask, random_inputs, undone
from prunelab.channels.plan import Plan
from prunelab.channels.surgery import shrink
from prunelab.core.network.filters import by_filter, transposed_groups
from prunelab.core.numbers.seeding import derived_generator
from prunelab.core.types import Example, Masks

log = logging.getLogger(__name__)
Outputs = Mapping[tuple[str, torch.dtype], list[Tensor]]  # by mode and precision
Failure = Callable[[Sequence[str]], str | None]  # of cutting these groups together; None: nothing fails


def unremovable(
    net: nn.Module,
    example: Example,
    groups: Mapping[str, int],
    expand: Callable[[Masks], Masks],
    plan: Callable[[Masks], Plan],
    norms: Mapping[str, int],
) -> dict[str, str]:
    """The groups, of so many units, that `net` cannot lose units of, and why.

    About half of the units of all groups are cut from a copy, which must compute what it computes with them masked, in
    eval and train mode. Where it does not, the groups at fault are found by halves (delta debugging, Zeller 1999).
    Weights and inputs are random, by name, so that the answer is the same whatever has been trained, on any machine:
    layers that start at 0 would hide what is behind them. Where the whole network does not run on them either, or
    cannot be copied, the log says so, and no group is named. `net` and the random streams are left as they are.
    """
    whole = copied(net)
    if whole is None or not groups:
        return {}
    _randomise(whole)
    trial = _Trial(whole, random_inputs(example), groups, expand, plan, norms)
    if trial.differs(tuple(groups)) is None:
        return {}
    if why := trial.differs(()):
        log.warning("what %s can lose is not proved before training: %s", type(net).__name__, why)
        return {}
    reasons: dict[str, str] = {}
    bisect((), bisect((), tuple(groups), trial.breaks, reasons), trial.differs, reasons)
    return reasons


@dataclass(frozen=True)
class _Trial:
    """Cuts some groups from a network and puts them back; `breaks` is the sooner test, `differs` the whole."""

    net: nn.Module
    inputs: Example
    groups: Mapping[str, int]
    expand: Callable[[Masks], Masks]
    plan: Callable[[Masks], Plan]
    norms: Mapping[str, int]

    def breaks(self, names: Sequence[str]) -> str | None:
        """Why the small network does not run in eval mode."""
        after = self._small(names, torch.float32, ("eval",))
        return after if isinstance(after, str) else None

    def differs(self, names: Sequence[str]) -> str | None:
        """Why the small network does not run, or computes something else than the masked one."""
        # In float32 rounding could decide, which is another on every machine.
        after = self._small(names, torch.float64)
        if isinstance(after, str):
            return after
        with undone(self.net):
            mask(self.net, self.expand(self._keep(names)), self.norms)
            try:
                before = outputs(self.net, self.inputs, "the masked copy", dtypes=[torch.float64])
            except EquivalenceError as error:
                return str(error)
        if not all(tensor.isfinite().all() for tensors in before.values() for tensor in tensors):
            return "the outputs of a copy are not finite"
        errors = {mode: difference(tensors, after[mode, dtype]) for (mode, dtype), tensors in before.items()}
        wrong = [f"by {e:.2g} in {mode} mode" for mode, e in errors.items() if not e <= TOLERANCE[torch.float64]]
        return f"a copy without some of them differs from the masked one {' and '.join(wrong)}" if wrong else None

    def _small(self, names: Sequence[str], dtype: torch.dtype, modes: Sequence[str] = MODES) -> Outputs | str:
        with undone(self.net):
            try:
                shrink(self.net, self.plan(self._keep(names)))
                return outputs(self.net, self.inputs, "a copy without some of them", dtypes=[dtype], modes=modes)
            except (EquivalenceError, ValueError) as error:
                return str(error)

    def _keep(self, names: Sequence[str]) -> Masks:
        return {name: _about_half(name, self.groups[name]) for name in names}


def bisect(proved: Sequence[str], names: Sequence[str], failure: Failure, reasons: dict[str, str]) -> Sequence[str]:
    """`proved` and those of `names` that can be cut with them; for the others the reason is noted."""
    why = failure([*proved, *names])
    if why is None:
        return [*proved, *names]
    if len(names) == 1:
        reasons[names[0]] = why
        return proved
    half = len(names) // 2
    return bisect(bisect(proved, names[:half], failure, reasons), names[half:], failure, reasons)


def _about_half(name: str, units: int) -> Tensor:
    """Which to keep: a number without a common divisor with `units`, so that code that counts on one fails too."""
    count = min((k for k in range(1, units) if math.gcd(k, units) == 1), key=lambda k: (abs(2 * k - units), -k))
    chosen = torch.randperm(units, generator=derived_generator(f"proof {name}", 0))[:count]
    return torch.zeros(units, dtype=torch.bool).index_fill(0, chosen, True)


@torch.no_grad()
def _randomise(net: nn.Module) -> None:
    """Weights of variance 1 / fan-in; scales, shifts and running statistics in [0.5, 1.5); single numbers stay.

    But not at 0, where a gate, as of ReZero, would hide its branch.
    """
    transposed = transposed_groups(net)
    for name, parameter in net.named_parameters():
        if (parameter.is_floating_point() or parameter.is_complex()) and parameter.numel() > 1:
            parts = torch.view_as_real(parameter) if parameter.is_complex() else parameter
            values = torch.rand(parts.shape, generator=derived_generator(f"proof {name}", 0))
            fan_in = by_filter(parameter, transposed.get(name))[0, 0].numel()
            wide = (2 * values - 1) * math.sqrt(3 / max(1, fan_in))
            parts.copy_(wide if parameter.dim() > 1 else values + 0.5)
        elif parameter.numel() == 1 and parameter == 0:
            parameter.fill_(0.5)
    for name, module in net.named_modules():
        if isinstance(module, _NormBase) and module.running_mean is not None and module.running_var is not None:
            generator = derived_generator(f"proof {name}", 0)
            for statistic in (module.running_mean, module.running_var):
                statistic.copy_(torch.rand(statistic.shape, generator=generator) + 0.5)
