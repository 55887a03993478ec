"""Which operations is a net made of? A program of torch.export: eval mode, any batch size, on the CPU."""

import contextlib
import copy
import io
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from prunelab.core.types import Example
from prunelab.export.error import ExportError

TORCH = Path(torch.__file__).parent


def on_cpu(net: nn.Module, example: Example) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A copy of `net` in eval mode, and its inputs. Raises ExportError for inputs without a common batch."""
    inputs = example if isinstance(example, tuple) else (example,)
    if len({len(x) if x.dim() else 0 for x in inputs}) != 1 or not inputs[0].dim() or not len(inputs[0]):
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs) or "nothing"
        raise ExportError(f"example is {shapes}: expected tensors (n, ...) of the same n >= 1")
    # torch.export.save keeps what is not contiguous, as weights in channels_last, with a warning.
    own = copy.deepcopy(net).cpu().to(memory_format=torch.contiguous_format)
    return own.eval(), tuple(x.detach().cpu().contiguous() for x in inputs)


def traced(net: nn.Module, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """The program of `net`, which is in eval mode. Raises ExportError, naming the place, where it has none."""
    two = tuple(x[torch.arange(2) % len(x)] for x in inputs)  # torch.export takes a size of 1 for a constant
    batch = Dim("batch")
    with quiet(), torch.no_grad():
        try:
            program = torch.export.export(net, two, dynamic_shapes=tuple({0: batch} for _ in two))
        except Exception as error:  # the net's own code may raise anything while it is followed
            where = f"{type(net).__name__}{_place(error)}"
            raise ExportError(f"torch.export cannot follow {where}: {told(error)}") from error
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # folders of this machine, which would travel with the file
    return program


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What torch prints and logs while it exports is left out: an error says what matters, in one line."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def told(error: BaseException) -> str:
    """An error in one line of at most 200 characters."""
    return f"{' '.join(str(error).split()) or type(error).__name__:.200}"


def _place(error: BaseException) -> str:
    """The last line outside of torch that led to it, where there is one: that of the net's forward."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_inside(Path(f.filename))]
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}, `{frames[-1].line}`" if frames else ""


def _is_inside(file: Path) -> bool:
    return TORCH in file.parents or file == Path(__file__) or not file.is_file()
