"""torch.export without its own output, and errors in one line."""

import contextlib
import io
import linecache
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

TORCH = Path(torch.__file__).parent


class TracingError(ValueError):
    """torch.export cannot trace a network; names the network, its inputs, the reason and the place in its code."""

    def __init__(self, net: nn.Module, inputs: tuple[Tensor, ...], reason: str) -> None:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        super().__init__(f"torch.export cannot trace {type(net).__name__} on an example of shape {shapes}: {reason}")


def export_program(net: nn.Module, inputs: tuple[Tensor, ...], dynamic_shapes: Any = None) -> ExportedProgram:
    """The program of `net` in its present mode. Raises TracingError for whatever goes wrong, also in the net's code."""
    with quiet(), torch.no_grad():
        try:
            return torch.export.export(net, inputs, dynamic_shapes=dynamic_shapes)
        except Exception as error:  # the network's own code may raise anything
            raise TracingError(net, inputs, error_summary(error)) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppresses what torch prints while it exports, such as half a graph: the error says what matters."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "The tensor attribute", UserWarning)  # a weight that a hook computes
        yield


def error_summary(error: BaseException) -> str:
    """One line: what a network's code raised, and where in the innermost forward or training_step outside of torch."""
    if type(error).__name__ == "GuardOnDataDependentSymNode":
        reason = "the code needs the value of a tensor, as in `if x.sum() > 0` or `.item()`"
    else:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {' '.join(lines[:3]):.400}"
    return reason + _place(error)


def _place(error: BaseException) -> str:
    traceback, place = error.__traceback__, ""
    while traceback is not None:
        code, line = traceback.tb_frame.f_code, traceback.tb_lineno
        if code.co_name in ("forward", "training_step") and TORCH not in Path(code.co_filename).parents:
            source = linecache.getline(code.co_filename, line).strip()
            place = f" (at {code.co_filename}:{line}{f', `{source}`' if source else ''})"
        traceback = traceback.tb_next
    return place
