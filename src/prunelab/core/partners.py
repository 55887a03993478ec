"""Which biases and norms carry a convolution's filters on, so that a filter masked without them would leak?"""

from collections.abc import Mapping
from contextlib import ExitStack

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from prunelab.core.glance import glance
from prunelab.core.types import Example

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (_BatchNorm, nn.GroupNorm)
Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d


def filter_partners(
    net: nn.Module, params: Mapping[str, Tensor], example: Example | None
) -> dict[str, tuple[str, ...]]:
    """For each convolution weight in `params`, the names of the (out,)-shaped parameters of its channels.

    They are its bias, and scale and shift of each norm that is fed the convolution's own output tensor in a
    forward pass over `example`; nothing is guessed from names or order. A net without norms needs no example.
    """
    names = {id(p): name for name, p in net.named_parameters()}
    convs = {m: names[id(m.weight)] for m in net.modules() if isinstance(m, CONVS)}
    convs = {m: name for m, name in convs.items() if name in params}
    partners = {name: {names[id(m.bias)]: None} if m.bias is not None else {} for m, name in convs.items()}
    if any(isinstance(m, NORMS) for m in net.modules()):
        for conv, norm in _direct_feeds(net, list(convs), example):
            partners[convs[conv]] |= {names[id(p)]: None for p in (norm.weight, norm.bias) if p is not None}
    return {name: tuple(found) for name, found in partners.items()}


def _direct_feeds(net: nn.Module, convs: list[Conv], example: Example | None) -> list[tuple[Conv, nn.Module]]:
    """Pairs (convolution, norm) where the very tensor that the one returns is what the other takes."""
    if example is None:
        raise ValueError(
            "pruning filters must see one forward pass, to find the norm behind each convolution: "
            "set example_input_array on the LightningModule"
        )
    made_by: dict[int, tuple[Conv, int]] = {}
    alive: list[Tensor] = []  # holds every output until the end, so that no id is used twice
    pairs: list[tuple[Conv, nn.Module]] = []

    def made(conv: Conv, _: object, out: Tensor) -> None:
        made_by[id(out)] = (conv, out._version)
        alive.append(out)

    def taken(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        conv, version = made_by.get(id(args[0]), (None, None)) if args else (None, None)
        if conv is not None and args[0]._version == version:  # else it was changed in place since, as by a skip
            pairs.append((conv, norm))

    with ExitStack() as stack:
        for conv in convs:
            stack.callback(conv.register_forward_hook(made).remove)
        for norm in (m for m in net.modules() if isinstance(m, NORMS)):
            stack.callback(norm.register_forward_pre_hook(taken).remove)
        stack.enter_context(glance(net))
        device = next(net.parameters()).device
        net(*(a.to(device) for a in (example if isinstance(example, tuple) else (example,))))
    return pairs
