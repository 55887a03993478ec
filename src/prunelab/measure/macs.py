"""How many multiply-accumulates does a net need for one input, and how many of them meet a weight that is not 0?"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.core.preserve import preserve_state
from prunelab.core.types import Example

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *TRANSPOSED)


@dataclass(frozen=True)
class Use:
    """One call of a layer."""

    layer: str
    kind: str  # its class
    weight: str
    positions: int  # at which each weight is applied, those of all inputs of the batch together
    weights: int
    nonzero: int  # of them
    weight_bits: int
    activation_bits: int  # of what came in

    @property
    def macs(self) -> int:
        return self.positions * self.weights

    @property
    def effective_macs(self) -> int:
        """Those whose weight is not 0."""
        return self.positions * self.nonzero

    @property
    def bits(self) -> int:
        """What a MAC is multiplied with to be bit operations (BOPs): weight bits x activation bits."""
        return self.weight_bits * self.activation_bits


def uses(net: nn.Module, example: Example) -> list[Use]:
    """What each convolution, transposed convolution and linear layer did in one pass, in the order of the calls.

    Products elsewhere (attention, `matmul`, recurrent layers) are no use of a layer: measure/uncounted.py names them.
    """
    names = {id(p): name for name, p in net.named_parameters()}
    found: list[Use] = []
    with ExitStack() as stack:
        for layer, module in net.named_modules():
            if isinstance(module, COUNTED):
                hook = _recorder(layer, names, found)
                stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        stack.enter_context(preserve_state(net))
        stack.enter_context(torch.compiler.set_stance("force_eager"))  # one image is not worth compiling for
        net(*(example if isinstance(example, tuple) else (example,)))
    return found


def _recorder(layer: str, names: Mapping[int, str], found: list[Use]) -> Any:
    def record(module: Any, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], out: Tensor) -> None:
        came, weight = args[0] if args else kwargs["input"], module.weight
        over = came if isinstance(module, TRANSPOSED) else out  # a transposed one applies its weights at each input
        positions = over.numel() // over.shape[1 - weight.dim()]
        name = names.get(id(weight), f"{layer}.weight")  # one that is computed, as by a parametrization, is none
        kind, alive = type(module).__name__, int(weight.count_nonzero())
        found.append(Use(layer, kind, name, positions, weight.numel(), alive, _bits(weight), _bits(came)))

    return record


def _bits(x: Tensor) -> int:
    """float32 32, bfloat16 16, int8 8: as stored, which is what autocast leaves alone."""
    return 8 * x.element_size()


def applications(net: nn.Module, example: Example) -> dict[str, int]:
    """How often each layer (`COUNTED`) applies each of its weights to one input, by weight name.

    For a convolution that is its output height x width, whatever its groups or dilation, and for a transposed one its
    input's. `example` is a batch of inputs, or several such tensors.
    """
    inputs = len(example[0] if isinstance(example, tuple) else example)
    counts: dict[str, int] = {}
    for use in uses(net, example):
        counts[use.weight] = counts.get(use.weight, 0) + use.positions // inputs
    return counts
