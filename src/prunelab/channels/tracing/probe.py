"""Tests with random numbers what an operation does to channels, where no rule says it."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves

WAYS = 64  # of cutting tensors without channels; where there are more, none is tried
ENOUGH = 256  # elements in which an operation shows whether it mixes them


class Law(NamedTuple):
    """What the inputs of an operation lose along `inputs`, its results lose along `outputs`."""

    inputs: tuple[int | None, ...]  # the axis of each input node; None: it is left whole
    outputs: tuple[int, ...]


def law(node: Node, axes: Sequence[int | None]) -> Law | None:
    """How `node` treats channels along `axes` of its input nodes, None for an input without channels; None: not singly.

    It is run on random numbers for two partitions of the channels, in which no two channels are always together: if it
    computes without some channels what it did, without those, then none depends on another. Masked channels, which are
    0, must neither give nor learn anything infinite.
    """

    def found() -> Law | None:
        probe = _Probe(node)
        size = next(x.shape[axis] for x, axis in zip(probe.random, axes, strict=True) if axis is not None)
        if not probe.finite_at_zero([axis is not None for axis in axes]):
            return None
        for cut in _ways(axes, probe.random, size):
            if outputs := probe.outputs(probe.random, cut, size):
                return Law(cut, outputs)
        return None

    return _tried(node, found)


def elementwise(node: Node, masked: Sequence[bool]) -> bool:
    """Whether each element of the result depends on the same element of the inputs, which are broadcast.

    Inputs that are `masked` may be 0, which must neither give nor teach anything infinite.
    """

    def found() -> bool:
        probe = _Probe(node)
        (result,) = probe.run(probe.random)
        flat = [x.expand(result.shape).flatten() for x in probe.random]
        few = [x[:ENOUGH] for x in flat]
        return (
            _same(probe.run(flat)[0], result.flatten())
            and probe.outputs(few, [0] * len(few), len(few[0])) == (0,)
            and probe.finite_at_zero(masked)
        )

    return bool(_tried(node, found))


def _tried(node: Any, test: Callable[[], Any]) -> Any:
    """None for what draws random numbers or writes to its inputs."""
    target = node.target
    if not isinstance(target, OpOverload) or torch.Tag.nondeterministic_seeded in target.tags:
        return None
    if target._schema.is_mutable:
        return None
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            return test()
    except Exception:  # an operation may raise anything for inputs that it does not accept
        return None


class _Probe:
    """Runs an operation on other numbers."""

    def __init__(self, node: Any) -> None:
        self.node = node
        generator = torch.Generator().manual_seed(0)
        values = [arg.meta["val"] for arg in node.all_input_nodes]
        self.random = [_drawn(value.shape, value.dtype, generator) for value in values]

    def run(self, values: Sequence[Tensor]) -> list[Tensor]:
        by_node: dict[Node, Tensor] = dict(zip(self.node.all_input_nodes, values, strict=True))
        args = map_arg(self.node.args, by_node.__getitem__)
        kwargs = map_arg(self.node.kwargs, by_node.__getitem__)
        return [leaf for leaf in tree_leaves(self.node.target(*args, **kwargs)) if isinstance(leaf, Tensor)]

    def outputs(self, values: Sequence[Tensor], cut: Sequence[int | None], size: int) -> tuple[int, ...] | None:
        """The axis along which each result loses what `values` lose along `cut`; None if there is no such axis."""
        whole = self.run(values)
        fits = [[axis for axis, count in enumerate(value.shape) if count == size] for value in whole]
        for some in partitions(size):
            if not all(fits):
                return None
            try:
                parts = self.run([_part(x, axis, some) for x, axis in zip(values, cut, strict=True)])
            except Exception:  # it does not accept such sizes
                return None
            fits = [
                [axis for axis in axes if _same(part, value.index_select(axis, some))]
                for part, value, axes in zip(parts, whole, fits, strict=True)
            ]
        return tuple(axes[0] for axes in fits) if all(len(axes) == 1 for axes in fits) else None

    def finite_at_zero(self, masked: Sequence[bool]) -> bool:
        """The result, and what the inputs learn, with 0 for `masked` inputs and ones elsewhere."""
        values = [
            torch.zeros_like(x) if zero or not x.is_floating_point() else torch.ones_like(x)
            for x, zero in zip(self.random, masked, strict=True)
        ]
        learning = [x.requires_grad_() for x in values if x.is_floating_point()]
        results = self.run(values)
        sums = [value.abs().sum() for value in results if value.requires_grad]
        if sums:
            torch.stack(sums).sum().backward()
        return all(bool(x.isfinite().all()) for x in [*results, *(x.grad for x in learning if x.grad is not None)])


def _ways(axes: Sequence[int | None], values: Sequence[Tensor], size: int) -> list[tuple[int | None, ...]]:
    """Tensors without channels are left whole, or cut along any axis of that size."""
    choices: list[list[int | None]] = [
        [axis] if axis is not None else [None, *(i for i, count in enumerate(x.shape) if count == size)]
        for axis, x in zip(axes, values, strict=True)
    ]
    return list(product(*choices)) if math.prod(map(len, choices)) <= WAYS else []


def _drawn(shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """In double precision; integers may be indices, and are 0 or 1."""
    if dtype.is_floating_point or dtype.is_complex:
        double = torch.complex128 if dtype.is_complex else torch.float64
        return torch.randn(shape, dtype=double, generator=generator)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


def partitions(size: int) -> Iterator[Tensor]:
    """Blocks of neighbours, and every n-th: any two are apart in one of them. Then one half."""
    width = math.isqrt(size - 1) + 1
    every = torch.arange(size)
    yield from every.split(width)
    yield from (every[start::width] for start in range(width))
    yield every[: (size + 1) // 2]


def _part(value: Tensor, axis: int | None, some: Tensor) -> Tensor:
    return value if axis is None else value.index_select(axis, some)


def _same(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.allclose(a, b, 1e-9, 1e-9, equal_nan=True) if a.dtype.is_floating_point else torch.equal(a, b)
