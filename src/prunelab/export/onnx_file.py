"""ONNX files, made by torch's exporter from a program of torch.export."""

import importlib
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from prunelab.core.files.atomic import atomic_write
from prunelab.core.network.torch_export import error_summary, quiet
from prunelab.core.types import Example
from prunelab.export.agreement import check
from prunelab.export.error import ExportError
from prunelab.export.program import on_cpu, traced

FLOAT = "export net.float(), or --to pt2"
QUIET = 4  # onnxruntime logs fatal errors only


def write(net: nn.Module, example: Example, path: Path) -> None:
    """See prunelab.export.onnx."""
    _require()
    net, inputs = on_cpu(net, example)
    if any(x.dtype == torch.bfloat16 for x in inputs):
        raise ExportError(f"onnxruntime runs no ONNX in bfloat16 on a CPU: {FLOAT}")
    model = converted(traced(net, inputs), type(net).__name__)
    with atomic_write(path) as file:
        file.write(model)
        check(net, inputs, runner(file))


def converted(program: ExportedProgram, name: str) -> bytes:
    """`program` as ONNX. Raises ExportError, naming the operation, for one that ONNX does not have."""
    with quiet(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about its own modules
        try:
            model = torch.onnx.export(program, dynamo=True, verbose=False)
        except Exception as error:
            raise ExportError(
                f"ONNX cannot express {_operation(error)}, which {name} computes: --to pt2 can"
            ) from error
    assert model is not None
    return model.model_proto.SerializeToString()


def runner(file: IO[bytes]) -> Callable[[tuple[Tensor, ...]], Sequence[Any]]:
    """A function that runs the ONNX in `file` by onnxruntime on the CPU. Raises ExportError where that cannot."""
    import onnxruntime

    file.seek(0)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    try:
        session = onnxruntime.InferenceSession(file.read(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has no common one
        raise ExportError(f"onnxruntime does not run it ({error_summary(error)}): {FLOAT}") from error
    names = [x.name for x in session.get_inputs()]
    return lambda inputs: session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})


def _require() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ExportError(
                f"ONNX needs {package} ({error_summary(error)}): pip install 'prunelab[export]'"
            ) from error


def _operation(error: BaseException | None) -> str:
    """The operation that the exporter stopped at, by the innermost error that names one."""
    operation, reason = "", ""
    while error is not None:
        if match := re.search(r"op='([\w.]+)'", str(error)):
            operation = match[1]
        reason, error = error_summary(error), error.__cause__
    return operation or f"an operation ({reason})"
