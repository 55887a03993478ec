"""Latency of networks, measured in turns."""

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
    """Seconds of a forward pass of the batch `example` for each network, in eval mode, without gradients.

    The networks take turns, so that other load on the machine affects all alike; the first `warmup` turns do not
    count. The result is the median of the others, or another `pick`: `min` is least disturbed by a busy machine. Each
    network runs on its own device and in its own precision, compiled if it is. A GPU is synchronised.
    """
    return [pick(seconds) for seconds in timings(nets, example, rounds, warmup)]


def timings(nets: Sequence[nn.Module], example: Example, rounds: int = 30, warmup: int = 5) -> list[list[float]]:
    """The seconds of each of the `rounds`, for each network."""
    inputs_of = [suited(net, example) for net in nets]
    times: list[list[float]] = [[] for _ in nets]
    with ExitStack() as stack:
        for net in nets:
            stack.enter_context(preserve_state(net))
        for _ in range(warmup + rounds):
            for net, inputs, seconds in zip(nets, inputs_of, times, strict=True):
                seconds.append(_seconds(net, inputs))
    return [seconds[warmup:] for seconds in times]


def suited(net: nn.Module, example: Example) -> tuple[Tensor, ...]:
    """`example` on the network's device and, unless it is integer, in the dtype of its first float parameter."""
    inputs = example if isinstance(example, tuple) else (example,)
    tensors = [*net.parameters(), *net.buffers(), *inputs]  # inputs, for a network without parameters
    dtype = next((t.dtype for t in tensors if t.is_floating_point()), None)
    return tuple(x.to(tensors[0].device, dtype if x.is_floating_point() else None) for x in inputs)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _seconds(net: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    _synchronise(inputs[0].device)
    start = time.perf_counter()
    net(*inputs)
    _synchronise(inputs[0].device)
    return time.perf_counter() - start


def _synchronise(device: torch.device) -> None:
    """GPU kernels run asynchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
