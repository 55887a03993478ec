"""How does a net become a .pt2 file? As the program of torch.export itself."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from prunelab.core.atomic import atomic_write
from prunelab.core.types import Example
from prunelab.export.agreement import check, outputs
from prunelab.export.program import on_cpu, traced


def write(net: nn.Module, example: Example, path: Path) -> None:
    """See prunelab.export.pt2."""
    net, inputs = on_cpu(net, example)
    program = traced(net, inputs)
    with atomic_write(path) as file:
        torch.export.save(program, file)
        check(net, inputs, runner(file))


def runner(file: IO[bytes]) -> Callable[[tuple[Tensor, ...]], Sequence[Any]]:
    """What runs the program in `file`, loaded again."""
    file.seek(0)
    module = torch.export.load(file).module()
    return lambda inputs: outputs(module, inputs)
