"""Multiply-accumulates (MACs) of layers, and those whose weight is not 0."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.core.network.preserve import preserve_state
from prunelab.core.types import Example

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


def uses(net: nn.Module, example: Example) -> list[Use]:
    """The calls of convolutions, transposed convolutions and linear layers in one pass, in order.

    Products elsewhere (attention, `matmul`, recurrent layers) are not among them: measure/uncounted.py names those.
    """
    names = {id(p): name for name, p in net.named_parameters()}
    calls: list[Use] = []
    with ExitStack() as stack:
        for layer, module in net.named_modules():
            if isinstance(module, COUNTED):
                hook = _recorder(layer, names, calls)
                stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        stack.enter_context(preserve_state(net))
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)  # kernels for whole layers of attention would hide these
        stack.enter_context(torch.compiler.set_stance("force_eager"))  # one image is not worth compiling for
        net(*(example if isinstance(example, tuple) else (example,)))
    return calls


def _recorder(layer: str, names: Mapping[int, str], calls: list[Use]) -> Any:
    def record(module: Any, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], out: Tensor) -> None:
        x, weight = args[0] if args else kwargs["input"], module.weight
        over = x if isinstance(module, TRANSPOSED) else out  # a transposed layer applies its weights at each input
        positions = over.numel() // over.shape[1 - weight.dim()]
        name = names.get(id(weight), f"{layer}.weight")  # a computed weight, as of a parametrization, is no parameter
        kind, nonzero = type(module).__name__, int(weight.count_nonzero())
        calls.append(Use(layer, kind, name, positions, weight.numel(), nonzero, _bits(weight), _bits(x)))

    return record


def _bits(x: Tensor) -> int:
    """float32 32, bfloat16 16, int8 8: as stored; autocast does not change that."""
    return 8 * x.element_size()


def applications(net: nn.Module, example: Example) -> dict[str, int]:
    """How often each layer (`COUNTED`) applies each of its weights to one input, by weight name.

    For a convolution this is output height x width, whatever its groups or dilation; for a transposed one, input height
    x width. `example` is a batch of inputs, or a tuple of such tensors.
    """
    inputs = len(example[0] if isinstance(example, tuple) else example)
    counts: dict[str, int] = {}
    for use in uses(net, example):
        counts[use.weight] = counts.get(use.weight, 0) + use.positions // inputs
    return counts
