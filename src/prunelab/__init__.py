"""prunelab.load(path): a net that was made small, from its file."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def load(path: str | Path, into: "nn.Module | None" = None) -> "nn.Module":
    """The net in eval mode, on the CPU; `into` is a new, unpruned net where it is none of ours.

    Raises ValueError for a file that is damaged, is something else or does not fit (channels/artefact.py,
    compact/file.py).
    """
    from prunelab.compact import file  # torch takes seconds, and composing a configuration needs none

    return file.load(path, into)
