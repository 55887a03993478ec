"""Latency of networks, measured in turns and alike."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median

import torch
from torch import Tensor, nn

from prunelab.core.network.compiled import WRAPPED, plain
from prunelab.core.network.preserve import preserve_state
from prunelab.core.numbers.float32 import float32_name
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
    network runs on its own device and in its own precision. They run compiled if all of them are, else none does. A GPU
    is synchronised.
    """
    return [pick(seconds) for seconds in timings(nets, example, rounds, warmup)]


def timings(nets: Sequence[nn.Module], example: Example, rounds: int = 30, warmup: int = 5) -> list[list[float]]:
    """The seconds of each of the `rounds`, for each network."""
    inputs_of = [suited(net, example) for net in nets]
    times: list[list[float]] = [[] for _ in nets]
    with ExitStack() as stack:
        nets = stack.enter_context(alike(nets))
        for net in nets:
            stack.enter_context(preserve_state(net))
        for _ in range(warmup + rounds):
            for net, inputs, seconds in zip(nets, inputs_of, times, strict=True):
                seconds.append(_seconds(net, inputs))
    return [seconds[warmup:] for seconds in times]


def timings_within(
    nets: Sequence[nn.Module], example: Example, seconds: float, least: int, most: int
) -> list[list[float]]:
    """`timings` of as many rounds, from `least` to `most`, as fit into about `seconds` for all networks together."""
    once = sum(times[0] for times in timings(nets, example, rounds=1, warmup=1))
    return timings(nets, example, rounds=max(least, min(most, int(seconds / once))), warmup=0)


@contextmanager
def alike(nets: Sequence[nn.Module]) -> Iterator[Sequence[nn.Module]]:
    """The networks to run in this block in place of `nets`: compiled if all of them are, else none."""
    if _all_compiled(nets):
        yield nets
        return
    calls = [(m, m._compiled_call_impl) for net in nets for m in net.modules() if _compiled(m)]
    try:
        for module, _ in calls:  # the stance alone leaves them slower than networks that never were compiled
            module._compiled_call_impl = None
        with torch.compiler.set_stance("force_eager"):
            yield list(map(plain, nets))
    finally:
        for module, call in calls:
            module._compiled_call_impl = call


def conditions(nets: Sequence[nn.Module], example: Example) -> str:
    """The precision of the networks, and whether they run compiled: "float32, not compiled"."""
    inputs = [suited(net, example)[0] for net in nets]
    names = dict.fromkeys(
        float32_name(x.device) if x.dtype == torch.float32 else str(x.dtype).removeprefix("torch.") for x in inputs
    )
    return f"{' and '.join(names)}, {'' if _all_compiled(nets) else 'not '}compiled"


def resized(example: Example, batch: int) -> tuple[Tensor, ...]:
    """A batch of that size: the inputs of `example` in turn. A number stays what it is."""
    inputs = example if isinstance(example, tuple) else (example,)
    return tuple(x[torch.arange(batch, device=x.device) % len(x)] if x.dim() else x for x in inputs)


def suited(net: nn.Module, example: Example) -> tuple[Tensor, ...]:
    """`example` on the network's device and, unless it is integer, in the dtype of its first float parameter."""
    inputs = example if isinstance(example, tuple) else (example,)
    tensors = [*net.parameters(), *net.buffers(), *inputs]  # inputs, for a network without parameters
    dtype = next((t.dtype for t in tensors if t.is_floating_point()), None)
    return tuple(x.to(tensors[0].device, dtype if x.is_floating_point() else None) for x in inputs)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _all_compiled(nets: Sequence[nn.Module]) -> bool:
    return all(any(map(_compiled, net.modules())) for net in nets)


def _compiled(module: nn.Module) -> bool:
    """By `module.compile()` or `torch.compile(module)`."""
    return module._compiled_call_impl is not None or hasattr(module, WRAPPED)


def _seconds(net: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    synchronise(inputs[0].device)
    start = time.perf_counter()
    net(*inputs)
    synchronise(inputs[0].device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    """GPU kernels run asynchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
