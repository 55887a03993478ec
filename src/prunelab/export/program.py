"""Programs of torch.export (eval mode, any batch size, on the CPU), and their .pt2 files."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule
from torch.utils._pytree import tree_map

from prunelab.core.files.atomic import atomic_write
from prunelab.core.network.compiled import plain
from prunelab.core.network.detached import detached_copy
from prunelab.core.network.torch_export import TracingError, export_program
from prunelab.core.types import Example
from prunelab.export.agreement import check, outputs
from prunelab.export.error import ExportError


def write(net: nn.Module, example: Example, path: Path) -> None:
    """See prunelab.export.pt2."""
    net, inputs = on_cpu(net, example)
    program = traced(net, inputs)
    with atomic_write(path) as file:
        torch.export.save(program, file)
        check(net, inputs, runner(file))


def on_cpu(net: nn.Module, example: Example) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A copy of `net` in eval mode, and its inputs; floats that it does not take have the dtype of its first float.

    Raises ExportError for inputs without a common batch.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    if len({len(x) if x.dim() else 0 for x in inputs}) != 1 or not inputs[0].dim() or not len(inputs[0]):
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs) or "nothing"
        raise ExportError(f"example is {shapes}: expected tensors (n, ...) of the same n >= 1")
    # torch.export.save warns about tensors that are not contiguous, such as weights in channels_last.
    contiguous = detached_copy(plain(net)).cpu().to(memory_format=torch.contiguous_format).eval()
    given = tuple(x.detach().cpu().contiguous() for x in inputs)
    dtype = next((t.dtype for t in (*net.parameters(), *net.buffers()) if t.is_floating_point()), None)
    suited = tuple(x.to(dtype if x.is_floating_point() else None) for x in given)
    same = all(x.dtype == y.dtype for x, y in zip(given, suited, strict=True))
    return contiguous, given if same or _takes(detached_copy(contiguous), given) else suited


def _takes(net: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    try:
        with torch.no_grad():
            net(*inputs)
    except Exception:  # of the network's own code; the trace says which
        return False
    return True


def traced(net: nn.Module, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """The program of `net`, which is in eval mode. Raises ExportError, naming the place, where it has none."""
    two = tuple(x[torch.arange(2) % len(x)] for x in inputs)  # torch.export takes a size of 1 for a constant
    batch = Dim("batch")
    arguments: tuple[Any, ...] = two
    with suppress(ValueError, TypeError):  # torch.export says what is wrong with other inputs, or other networks
        arguments = tuple(inspect.signature(net.forward).bind(*two).arguments.values())  # those of *args are a tuple
    try:
        program = export_program(net, two, tree_map(lambda _: {0: batch}, arguments))
    except TracingError as error:
        raise ExportError(str(error)) from error
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # paths of this machine, which would be saved in the file
    return program


def runner(file: IO[bytes]) -> Callable[[tuple[Tensor, ...]], Sequence[Any]]:
    """Loads the program in `file` and returns a function that runs it."""
    file.seek(0)
    module = torch.export.load(file).module()
    return lambda inputs: outputs(module, inputs)
