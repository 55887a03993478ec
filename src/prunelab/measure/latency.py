"""How long does a net take for one batch? Measured by running it, beside the nets it is compared with."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import median

import torch
from torch import Tensor, nn

from prunelab.core.preserve import preserve_state
from prunelab.core.types import Example


def latency(
    nets: Sequence[nn.Module],
    example: Example,
    rounds: int = 30,
    warmup: int = 5,
    pick: Callable[[Sequence[float]], float] = median,
) -> list[float]:
    """Seconds that a forward pass of the batch `example` takes each net: in eval mode, without gradients.

    The nets take turns, so that what else the machine does meets them all alike; the first `warmup` turns do not
    count. Of the others their median is taken, or another `pick`: `min` is what a busy machine disturbs least. Each
    net runs on its own device and in its own precision, compiled if it is. A GPU is waited for.
    """
    return [pick(seconds) for seconds in timings(nets, example, rounds, warmup)]


def timings(nets: Sequence[nn.Module], example: Example, rounds: int = 30, warmup: int = 5) -> list[list[float]]:
    """The seconds of each of the `rounds`, for each net: what `latency` picks from."""
    given = [suited(net, example) for net in nets]
    taken: list[list[float]] = [[] for _ in nets]
    with ExitStack() as stack:
        for net in nets:
            stack.enter_context(preserve_state(net))
        for _ in range(warmup + rounds):
            for net, inputs, seconds in zip(nets, given, taken, strict=True):
                seconds.append(_seconds(net, inputs))
    return [seconds[warmup:] for seconds in taken]


def suited(net: nn.Module, example: Example) -> tuple[Tensor, ...]:
    """On the net's device and, unless it is whole numbers, in its precision: that of its first float parameter."""
    inputs = example if isinstance(example, tuple) else (example,)
    held = [*net.parameters(), *net.buffers(), *inputs]  # the last for a net that holds nothing
    dtype = next((p.dtype for p in held if p.is_floating_point()), None)
    return tuple(x.to(held[0].device, dtype if x.is_floating_point() else None) for x in inputs)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _seconds(net: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    _wait(inputs[0].device)
    start = time.perf_counter()
    net(*inputs)
    _wait(inputs[0].device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    """A GPU is given work, and does it later."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
