"""Certificates that a shrunk network computes what the masked one did; required before any savings are reported."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from prunelab.channels.equivalence.chance import WithoutChance
from prunelab.core.network.preserve import preserve_state
from prunelab.core.network.temporary import temporary_tensors
from prunelab.core.network.torch_export import error_summary
from prunelab.core.numbers.float32 import ieee_float32
from prunelab.core.numbers.float64 import double, float64_device
from prunelab.core.numbers.seeding import seeded_python
from prunelab.core.types import Example

MODES = ("eval", "train")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}  # of the largest output
CONSTANT = 1e4  # times the largest value that differs: what is larger sets no scale
CEILING = 1e-2  # of the tolerance
NOISE = 16  # times the masked network's own rounding error is tolerated: deep networks in train mode amplify it
PRECISIONS = ("float", "double", "half", "bfloat16", "cfloat", "cdouble", "chalf")
CASTS = {getattr(Tensor, name): getattr(torch, name) for name in PRECISIONS}


REMEDY = (
    "A hard-coded number of channels, as in x.view(-1, 512), is a usual cause: "
    "take the number from x.shape or write -1, or name the layer in `skip`"
)


class EquivalenceError(RuntimeError):
    """A shrunk network computes something else."""


@dataclass(frozen=True)
class Certificate:
    """The largest differences of outputs, as fractions of the largest output, in eval and train mode."""

    eval_float32: float
    train_float32: float
    eval_float64: float
    train_float64: float
    inputs: int  # number of images compared

    def to_json(self) -> dict[str, float]:
        return asdict(self)


class EquivalenceCheck:
    """Stores the outputs of a network on `inputs`, to compare them with its outputs after surgery.

    Dropout is off in both modes and random operations give constants, since a smaller network draws other numbers;
    batch norms use the batch's statistics in train mode. Parameters, buffers and random streams are not changed. Raises
    EquivalenceError where the network does not run, or its outputs are not finite.
    """

    def __init__(self, net: nn.Module, inputs: Example) -> None:
        self.inputs = inputs
        self.before = outputs(net, inputs, "the masked network")
        for (mode, dtype), tensors in self.before.items():
            if not all(tensor.isfinite().all() for tensor in tensors):
                raise EquivalenceError(f"the masked network's own outputs are not finite {_where(mode, dtype, net)}")

    def certify(self, net: nn.Module) -> Certificate:
        """Raises EquivalenceError unless the network runs and outputs agree within 1e-5 in float32, 1e-9 in float64."""
        after = outputs(net, self.inputs, "the shrunk network", f". {REMEDY}")
        errors, exceeded = {}, []
        for (mode, dtype), tensors in after.items():
            before = self.before[mode, dtype]
            error = difference(before, tensors)
            allowed = TOLERANCE[dtype]
            if dtype == torch.float32:
                rounding = NOISE * difference(self.before[mode, torch.float64], before)
                allowed = max(allowed, min(rounding, CEILING))
            errors[f"{mode}_{str(dtype).removeprefix('torch.')}"] = error
            if not error <= allowed or error == float("inf"):
                exceeded.append(f"{error:.2g} in {mode} mode in {dtype}, allowed: {allowed:.2g}")
        if exceeded:
            raise EquivalenceError(f"the shrunk network differs from the masked one: {'; '.join(exceeded)}. {REMEDY}")
        first = self.inputs[0] if isinstance(self.inputs, tuple) else self.inputs
        return Certificate(**errors, inputs=len(first))


class _OnePrecision(TorchFunctionMode):
    """One precision throughout, whatever dtypes the network's code names."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in CASTS:
            return args[0].to(_in_precision(CASTS[func], self.dtype))
        args, kwargs = tree_map(self._replace, (args, kwargs or {}))
        return func(*args, **kwargs)

    def _replace(self, value: Any) -> Any:
        return _in_precision(value, self.dtype) if isinstance(value, torch.dtype) else value


def _in_precision(dtype: torch.dtype, precision: torch.dtype) -> torch.dtype:
    """The float or complex dtype of that precision; others stay."""
    if dtype.is_complex:
        return precision.to_complex()
    return precision if dtype.is_floating_point else dtype


def _where(mode: str, dtype: torch.dtype, net: nn.Module) -> str:
    """And the likely reason, with its remedy."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    names = [name for name, x in tensors.items() if not x.isfinite().all()]
    if names:
        return f"in {mode} mode in {dtype}: {names[0]} is not, training has diverged; lower the learning rate"
    return f"in {mode} mode in {dtype}, and its weights are: look at the inputs, and at divisions and logarithms"


def outputs(
    net: nn.Module,
    inputs: Example,
    which: str,
    remedy: str = "",
    dtypes: Iterable[torch.dtype] = tuple(TOLERANCE),
    modes: Iterable[str] = MODES,
) -> dict[tuple[str, torch.dtype], list[Tensor]]:
    """All tensors that `net` returns, by mode and precision.

    Where it does not run, or returns none, raises EquivalenceError, which begins with `which` and ends with `remedy`.
    """
    found = {}
    for mode in modes:
        for dtype in dtypes:
            with (
                preserve_state(net, training=mode == "train"),
                torch.no_grad(),
                torch.compiler.set_stance("force_eager"),
                ieee_float32(),
                seeded_python(),
            ):
                try:
                    found[mode, dtype] = _forward(net, inputs, dtype)
                except Exception as error:  # the network's own code may raise anything
                    raise EquivalenceError(
                        f"{which} does not run in {mode} mode in {dtype}: {error_summary(error)}{remedy}"
                    ) from error
            if not found[mode, dtype]:
                raise EquivalenceError(f"{type(net).__name__} returns no tensor that could be compared")
    return found


def _forward(net: nn.Module, inputs: Example, dtype: torch.dtype) -> list[Tensor]:
    """In precision `dtype`, by copies of parameters and buffers; random numbers are the same in every call."""
    torch.manual_seed(0)
    device, default = next(net.parameters()).device, torch.get_default_dtype()
    device = float64_device(device) if dtype == torch.float64 else device
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    copies = {name: _as(tensor.detach().to(device, copy=True), dtype) for name, tensor in tensors.items()}
    inputs = tuple(_as(x.to(device, copy=True), dtype) for x in (inputs if isinstance(inputs, tuple) else (inputs,)))
    torch.set_default_dtype(dtype)  # for tensors that the network's code creates
    try:
        with (
            temporary_tensors(net, copies),
            torch.autocast(device.type, enabled=False),
            WithoutChance(),
            _OnePrecision(dtype),
        ):
            leaves = tree_leaves(net(*inputs))
    finally:
        torch.set_default_dtype(default)
    return [double(_parts(leaf)) for leaf in leaves if isinstance(leaf, Tensor)]


def _parts(tensor: Tensor) -> Tensor:
    """Real and imaginary parts, along a last axis."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(_in_precision(tensor.dtype, dtype))


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest, as a fraction of the largest value; infinite where shapes differ or a value is not finite."""
    if [x.shape for x in a] != [x.shape for x in b]:
        return float("inf")
    differences = [_relative(x, y) for x, y in zip(a, b, strict=True) if x.numel()]
    return max(differences, default=0.0) if all(map(math.isfinite, differences)) else float("inf")


def _relative(x: Tensor, y: Tensor) -> float:
    """A constant that both have, as -1e9 for what is ruled out, makes no difference small."""
    differ = x != y
    if not differ.any():
        return 0.0
    largest = torch.minimum(x.abs().max(), CONSTANT * x.abs()[differ].max())
    return float((x - y).abs()[differ].max() / largest.clamp_min(1e-30))
