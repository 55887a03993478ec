"""Exports networks as ONNX or .pt2 files: `prunelab.export.onnx(net, example, path)`; each file is checked."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from prunelab.export.error import ExportError

if TYPE_CHECKING:
    from torch import nn

    from prunelab.core.types import Example

Format = Callable[["nn.Module", "Example", str | Path], None]


def onnx(net: "nn.Module", example: "Example", path: str | Path) -> None:
    """Writes `net` as ONNX, atomically: in eval mode, in its own precision, for batches of any size.

    `example` is a tensor (n, ...) or a tuple of them, n >= 1; axis 0 is the batch in each. Floats take the dtype of the
    network's first. Before the file is moved to `path`, onnxruntime runs it on several batch sizes. `net` is not
    changed. Raises ExportError where ONNX cannot express `net` or onnxruntime cannot run it, where an output differs
    from PyTorch's by more than 1e-4 of the largest (in float16 8e-3), and without the packages of `pip install
    'prunelab[export]'`; OSError where the file cannot be written.
    """
    from prunelab.export import onnx_file  # lazy: importing torch takes seconds, listing the formats needs none of it

    onnx_file.write(net, example, Path(path))


def pt2(net: "nn.Module", example: "Example", path: str | Path) -> None:
    """The same as a program of `torch.export`, which `torch.export.load(path).module()` runs without its code."""
    from prunelab.export import program

    program.write(net, example, Path(path))


__all__ = ["FORMATS", "ExportError", "onnx", "pt2"]
# The choices of `--to`: to add a format, write its function and add a line here.
FORMATS: dict[str, Format] = {"onnx": onnx, "pt2": pt2}
