"""prunelab.load(path): a net that was made small, from its file. prunelab.profile(net, example): what a net costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from prunelab.core.types import Example
    from prunelab.measure.profile import Profile


def load(path: str | Path, into: "nn.Module | None" = None) -> "nn.Module":
    """The net in eval mode, on the CPU; `into` is a new, unpruned net where it is none of ours.

    Raises ValueError for a file that is damaged, is something else or does not fit (compact/file.py).
    """
    from prunelab.compact import file  # torch takes seconds, and composing a configuration needs none

    return file.load(path, into)


def profile(
    net: "nn.Module",
    example: "Example",
    dense: "nn.Module | None" = None,
    batches: Sequence[int] = (1, 128),
    rounds: int = 20,
) -> "Profile":
    """Size, sparsity, MACs, BOPs, memory and latency of `net`, beside its unpruned parent `dense` where given.

    `example` is a batch of any size, or a tuple of tensors with one; latency and peak memory are those of each size
    in `batches`. `print` shows tables, `dataclasses.asdict` gives what JSON takes. Raises ValueError for an example
    without a batch, for fewer than 2 rounds, and for nets on two devices (measure/profile.py).
    """
    from prunelab.measure import profiler

    return profiler.profile(net, example, dense, batches, rounds)
