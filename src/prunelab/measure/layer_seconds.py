"""The seconds of a forward pass, layer by layer, on a machine that does other work as well."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise

from torch import Tensor, nn

from prunelab.core.network.preserve import preserve_state
from prunelab.core.types import Example
from prunelab.measure.latency import alike, suited, synchronise

Passes = Callable[[], dict[str, float]]


def layer_seconds(
    nets: Sequence[nn.Module], example: Example, seconds: float, least: int, most: int
) -> list[dict[str, float]]:
    """For each network the fewest seconds from each call of a layer to the next layer's, by the layer's parameter.

    A layer is a module with parameters of its own, and its first one names it; activations and sums count to the layer
    before them, "" is what comes before the first. Each is so short that other processes leave some of its runs alone,
    which a whole pass may never be: the sum of the fewest is the time of an undisturbed pass. The networks take turns,
    of two passes, from `least` to `most` of them, for about `seconds`; none runs compiled. A GPU is synchronised.
    """
    fewest: list[dict[str, float]] = [{} for _ in nets]
    with ExitStack() as stack:
        plain = stack.enter_context(alike([*nets, nn.Identity()]))  # the last is not compiled, so none is
        names = [{id(p): name for name, p in net.named_parameters()} for net in nets]
        passes = [_passes(net, suited(net, example), known, stack) for net, known in zip(plain, names, strict=False)]
        start, turns = time.monotonic(), 0
        while turns < least or (turns < most and time.monotonic() - start < seconds):
            turns += 1
            for once, known in zip(passes, fewest, strict=True):
                for taken in (once(), once()):
                    known |= {name: min(taken[name], known.get(name, taken[name])) for name in taken}
    return fewest


def _passes(net: nn.Module, inputs: tuple[Tensor, ...], names: Mapping[int, str], stack: ExitStack) -> Passes:
    marks: list[tuple[str, float]] = []

    def mark(name: str) -> None:
        synchronise(inputs[0].device)
        marks.append((name, time.perf_counter()))

    def once() -> dict[str, float]:
        marks.clear()
        mark("")
        net(*inputs)
        mark("")
        taken: dict[str, float] = {}
        for (name, start), (_, end) in pairwise(marks):
            taken[name] = taken.get(name, 0.0) + end - start
        return taken

    stack.enter_context(preserve_state(net))
    for module in net.modules():
        own = next(module.parameters(recurse=False), None)
        if own is not None:
            name = names[id(own)]
            stack.callback(module.register_forward_pre_hook(lambda *_, name=name: mark(name)).remove)
    return once
