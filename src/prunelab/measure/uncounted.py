"""Products that a network computes outside the layers that macs.py counts."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from prunelab.core.network.preserve import preserve_state
from prunelab.core.types import Example
from prunelab.measure.macs import Use, below

LOOKED_UP = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm)  # matrices as parameters, but no matrix product


@dataclass(frozen=True)
class Uncounted:
    """What PyTorch's counter sees besides the layers, and the weights that no counter sees."""

    macs: dict[str, int]  # by module, of the whole batch; "" is the network itself
    unseen: tuple[str, ...]  # parameters of two or more dimensions, such as those of a fused LSTM


def uncounted(net: nn.Module, example: Example, counted: list[Use]) -> Uncounted:
    """`counted` are the `uses` of the same `example`.

    `torch.utils.flop_counter` sees matrix products, convolutions and attention. A product that it does not know is
    found by its weights; one without weights (`cdist`, a dot product of two vectors) is missed.
    """
    flops = _flops(net, example)
    macs = {name: count // 2 for name, count in flops.items()}
    for use in counted:
        macs[_called(use.layer, flops)] -= use.macs
    rest = {name: count for name, count in macs.items() if count > 0}
    used = {u.weight for u in counted} | set().union(*(_sources(u.weight) for u in counted))
    unseen = [
        name
        for name, module, weight in _matrices(net)
        if name not in used and not isinstance(module, LOOKED_UP) and _called(name, flops) not in rest
    ]
    return Uncounted(rest, tuple(unseen))


def _sources(weight: str) -> set[str]:
    """What a weight of that name is computed from by parametrizations, and by hooks as of torch.nn.utils.prune."""
    path, _, attribute = weight.rpartition(".")
    originals = {below(path, f"parametrizations.{attribute}.original{i}") for i in ("", 0, 1)}
    return originals | {f"{weight}_{suffix}" for suffix in ("orig", "g", "v")}


def _matrices(net: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    for name, weight in net.named_parameters():
        if sum(size > 1 for size in weight.shape) > 1:  # a vector in any shape scales or is added
            yield name, net.get_submodule(name.rpartition(".")[0]), weight


def _called(name: str, called: Mapping[str, int]) -> str:
    """The innermost module around a parameter that was called: attention uses the weights of layers it never calls."""
    while name and name not in called:
        name = name.rpartition(".")[0]
    return name


def _flops(net: nn.Module, example: Example) -> dict[str, int]:
    """Flops of each module that was called, without those of its submodules."""
    own: dict[str, int] = {}
    with ExitStack() as stack:
        stack.enter_context(preserve_state(net))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_unfused())
        for parameter in [p for p in net.parameters() if p.requires_grad]:
            stack.callback(parameter.requires_grad_)
            parameter.requires_grad_(False)  # the counter fails at a view that wants a gradient and has no history
        counter = stack.enter_context(FlopCounterMode(display=False))
        open_: list[list[int]] = []  # per running module: flops before it, flops of its submodules
        for name, module in net.named_modules():
            enter, leave = _bracket(name, counter, open_, own)
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        net(*(x.detach() for x in (example if isinstance(example, tuple) else (example,))))
    return own


def _bracket(
    name: str, counter: FlopCounterMode, open_: list[list[int]], own: dict[str, int]
) -> tuple[Callable[..., None], Callable[..., None]]:
    def enter(*_: object) -> None:
        open_.append([counter.get_total_flops(), 0])

    def leave(*_: object) -> None:
        before, inside = open_.pop()
        spent = counter.get_total_flops() - before
        own[name] = own.get(name, 0) + spent - inside
        if open_:
            open_[-1][1] += spent

    return enter, leave


@contextmanager
def _unfused() -> Iterator[None]:
    """Computes attention by plain matrix products: the counter does not know some fused kernels."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
