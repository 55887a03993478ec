"""Multiply-accumulates (MACs) of layers, and those whose weight is not 0."""

import inspect
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.core.network.preserve import preserve_state
from prunelab.core.types import Example
from prunelab.measure.latency import resized, suited

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *TRANSPOSED)


@dataclass(frozen=True)
class Use:
    """One call of a layer."""

    layer: str
    kind: str  # its class
    weight: str
    positions: int  # at which each weight is applied, summed over the batch
    weights: int
    nonzero: int  # weights that are not 0
    weight_bits: int
    activation_bits: int  # of the input

    @property
    def macs(self) -> int:
        return self.positions * self.weights

    @property
    def effective_macs(self) -> int:
        """MACs whose weight is not 0."""
        return self.positions * self.nonzero

    @property
    def bits(self) -> int:
        """Bit operations (BOPs) per MAC: weight bits x activation bits."""
        return self.weight_bits * self.activation_bits

    @property
    def bops(self) -> int:
        return self.macs * self.bits


def uses(net: nn.Module, example: Example) -> list[Use]:
    """The calls of convolutions, transposed convolutions and linear layers in one pass, in order.

    The projections of nn.MultiheadAttention are among them, also where it calls no layer for them. Products elsewhere
    (of queries and keys, `matmul`, recurrent layers) are not: measure/uncounted.py names those.
    """
    names = {id(p): name for name, p in net.named_parameters()}
    calls: list[Use] = []
    within: set[nn.Module] = set()  # output projections of attention that runs: some call them as layers, not torch's
    with ExitStack() as stack:
        for layer, module in net.named_modules():
            if _is_attention(module):
                enter = module.register_forward_pre_hook(lambda module, _: within.add(module.out_proj))
                stack.callback(enter.remove)
                hook = _projections(layer, names, calls, within)
            elif isinstance(module, COUNTED):
                hook = _product(layer, names, calls, within)
            else:
                continue
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        stack.enter_context(preserve_state(net))
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)  # kernels for whole layers of attention would hide these
        stack.enter_context(torch.compiler.set_stance("force_eager"))  # one image is not worth compiling for
        net(*(example if isinstance(example, tuple) else (example,)))
    return calls


def _is_attention(module: nn.Module) -> bool:
    """Whether it is nn.MultiheadAttention or like it; a `forward` of other arguments may compute anything."""
    if not isinstance(module, nn.MultiheadAttention):
        return False
    first = [*inspect.signature(type(module).forward).parameters.values()][1:4]
    needed = [argument.name for argument in first if argument.default is argument.empty]
    return needed == ["query", "key", "value"]


def _product(layer: str, names: Mapping[int, str], calls: list[Use], within: Collection[nn.Module]) -> Any:
    def record(module: Any, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], out: Tensor) -> None:
        if module in within:
            return
        x, weight = args[0] if args else kwargs["input"], module.weight
        over = x if isinstance(module, TRANSPOSED) else out  # a transposed layer applies its weights at each input
        positions = over.numel() // over.shape[1 - weight.dim()]
        # A computed weight, as of a parametrization, is no parameter.
        name = names.get(id(weight), below(layer, "weight"))
        calls.append(_use(layer, module, name, weight, positions, x))

    return record


def _projections(layer: str, names: Mapping[int, str], calls: list[Use], within: set[nn.Module]) -> Any:
    """Those of queries, keys and values, each with as many positions as these, and of the output."""

    def record(module: Any, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], _: object) -> None:
        within.discard(module.out_proj)
        query, key, value = [*args[:3], *(kwargs[name] for name in ("query", "key", "value")[len(args) :])]
        inputs, packed, out = (query, key, value), module.in_proj_weight, module.out_proj
        attributes = [f"{x}_proj_weight" for x in "qkv"] if packed is None else ["in_proj_weight"] * 3
        weights = [getattr(module, attribute) for attribute in attributes]
        for i, (x, weight, attribute) in enumerate(zip(inputs, weights, attributes, strict=True)):
            name = names.get(id(weight), below(layer, attribute))
            part = weight if packed is None else weight.chunk(3)[i]
            calls.append(_use(layer, module, name, part, x.numel() // x.shape[-1], x))
        name = names.get(id(out.weight), below(layer, "out_proj.weight"))
        calls.append(_use(below(layer, "out_proj"), out, name, out.weight, query.numel() // query.shape[-1], query))

    return record


def _use(layer: str, module: nn.Module, name: str, weight: Tensor, positions: int, x: Tensor) -> Use:
    kind, nonzero = type(module).__name__, int(weight.count_nonzero())
    return Use(layer, kind, name, positions, weight.numel(), nonzero, _bits(weight), _bits(x))


def below(path: str, name: str) -> str:
    """The full name of what a module holds; "" is the path of the network itself."""
    return f"{path}.{name}" if path else name


def _bits(x: Tensor) -> int:
    """float32 32, bfloat16 16, int8 8: as stored; autocast does not change that."""
    return 8 * x.element_size()


def costs_by_weight(net: nn.Module, example: Example, of: str = "macs") -> dict[str, int]:
    """MACs, or BOPs, of the first input of `example`, by the name of the weight, which need not be a parameter's."""
    costs: dict[str, int] = {}
    for use in uses(net, suited(net, resized(example, 1))):
        costs[use.weight] = costs.get(use.weight, 0) + (use.bops if of == "bops" else use.macs)
    return costs
