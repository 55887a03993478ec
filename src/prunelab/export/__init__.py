"""prunelab.export.onnx(net, example, path), .pt2(...): a net as a file for other programs, compared before it stays."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from prunelab.export.error import ExportError

if TYPE_CHECKING:
    from torch import nn

    from prunelab.core.types import Example

Format = Callable[["nn.Module", "Example", str | Path], None]


def onnx(net: "nn.Module", example: "Example", path: str | Path) -> None:
    """Writes `net` as ONNX: in eval mode, in its own precision, for batches of any size; whole or not at all.

    `example` is a tensor (n, ...) or a tuple of them, n >= 1; axis 0 is the batch in each. Before the file takes its
    place it is run by onnxruntime on several batch sizes. `net` stays as it is. Raises ExportError where `net` cannot
    be expressed, where an output differs from PyTorch's by more than 1e-4 of the largest, and without the packages
    of `pip install 'prunelab[export]'`; OSError where the file cannot be written.
    """
    from prunelab.export import onnx_file  # torch takes seconds, and the names of the formats need none

    onnx_file.write(net, example, Path(path))


def pt2(net: "nn.Module", example: "Example", path: str | Path) -> None:
    """The same as a program of `torch.export`, which `torch.export.load(path).module()` runs without the net's code."""
    from prunelab.export import program_file

    program_file.write(net, example, Path(path))


__all__ = ["FORMATS", "ExportError", "onnx", "pt2"]
# What `--to` knows: a further format is a function and its line here.
FORMATS: dict[str, Format] = {"onnx": onnx, "pt2": pt2}
