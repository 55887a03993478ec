"""What surgery is tried on: a copy of the network, with masked weights, and random inputs."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from prunelab.core.network.detached import detached_copy
from prunelab.core.network.living_norms import forget, take_notice
from prunelab.core.numbers.seeding import derived_generator
from prunelab.core.types import Example, Masks

log = logging.getLogger(__name__)
LEAST = 2  # inputs: batch norm has no variance of one
N = TypeVar("N", bound=nn.Module)


def copied(net: N) -> N | None:
    """A copy of `net`, none of whose norms knows a mask; None where attributes of its modules cannot be copied."""
    try:
        small = detached_copy(net)
    except Exception as error:  # the network's own attributes may raise anything
        log.warning("%s cannot be copied, so surgery is not tried on it: %s", type(net).__name__, error)
        return None
    for module in small.modules():
        forget(module)
    return small


def mask(net: nn.Module, masks: Masks, norms: Mapping[str, int]) -> None:
    """Sets what is False in `masks` to 0; `norms`, as of a granularity, know of it."""
    for name, kept in masks.items():
        parameter = net.get_parameter(name)
        parameter.data = parameter.data * kept.to(parameter.device)
    take_notice(net, norms, masks)


@contextmanager
def undone(net: nn.Module) -> Iterator[None]:
    """Takes back `mask`, and `shrink` of channels, after the block; not that of blocks."""
    tensors = [(tensor, tensor.data) for tensor in [*net.parameters(), *net.buffers()]]
    sizes = [(m, type(m), {k: v for k, v in vars(m).items() if isinstance(v, int | tuple)}) for m in net.modules()]
    try:
        yield
    finally:
        for tensor, data in tensors:
            tensor.data = data
        for module, kind, own in sizes:
            forget(module)
            module.__class__ = kind
            vars(module).update(own)


def repeated(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Inputs, LEAST times where they are a batch of one; a single one of several is that of the whole batch."""
    alone = all(len(x) == 1 for x in inputs if x.dim())
    return tuple(torch.cat([x] * LEAST) if alone and x.dim() else x for x in inputs)


def random_inputs(example: Example) -> Example:
    """In the form of `example`, not a single one, the same in every call."""
    generator = derived_generator("rehearsal", 0)

    def random(x: Tensor) -> Tensor:
        """In [0, 1), as of images; numbers of tokens and the like stay what they are."""
        drawn = x.is_floating_point() or x.is_complex()
        return torch.rand(x.shape, generator=generator, dtype=x.dtype) if drawn else x

    if isinstance(example, tuple):
        return tuple(map(random, repeated(example)))
    return random(*repeated((example,)))
