"""How many multiply-accumulates does a net need for one input, and how many of them meet a weight that is not 0?"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunelab.core.glance import glance

COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
BITS = 32  # of a float weight, and of a float activation


@dataclass(frozen=True)
class Cost:
    """Of a whole net and one input."""

    params: int
    nonzero: int
    macs: int
    bops: int  # MACs x weight bits x activation bits


def applications(net: nn.Module, example: Tensor) -> dict[str, int]:
    """How often each convolution and linear layer applies each of its weights to one input, by weight name.

    For a convolution that is its output height x width, whatever its groups. `example` is a batch of inputs.
    """
    names = {id(p): name for name, p in net.named_parameters()}
    counts: dict[str, int] = {}

    def count(module: nn.Module, _: object, out: Tensor) -> None:
        name = names[id(module.weight)]
        channels = out.shape[-1] if isinstance(module, nn.Linear) else out.shape[1]
        counts[name] = counts.get(name, 0) + out.numel() // (channels * len(example))

    with ExitStack() as stack:
        for module in net.modules():
            if isinstance(module, COUNTED):
                stack.callback(module.register_forward_hook(count).remove)
        stack.enter_context(glance(net))
        stack.enter_context(torch.compiler.set_stance("force_eager"))  # one image is not worth compiling for
        net(example)
    return counts


def dense_cost(net: nn.Module, applied: Mapping[str, int]) -> Cost:
    """What the net would cost with none of its weights at 0; `applied` comes from `applications`."""
    return _cost(applied, {name: p.numel() for name, p in net.named_parameters()}, net)


def sparse_cost(net: nn.Module, applied: Mapping[str, int]) -> Cost:
    """The same with every product left out whose weight is 0: what an ideal sparse kernel would compute."""
    return _cost(applied, {name: int(p.count_nonzero()) for name, p in net.named_parameters()}, net)


def _cost(applied: Mapping[str, int], alive: Mapping[str, int], net: nn.Module) -> Cost:
    macs = sum(times * alive[name] for name, times in applied.items())
    return Cost(sum(p.numel() for p in net.parameters()), sum(alive.values()), macs, macs * BITS * BITS)
