"""Reads files of torch.save: no code in them is run, and none takes more memory than it has bytes."""

import re
import zipfile
from pathlib import Path
from typing import Any

import torch

COMPRESSED = "it is a program of TorchScript, or another compressed archive"


def read(path: Path) -> Any:
    """What a file holds; its tensors are mapped from it, not copied. Raises whatever a damaged file provokes."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))


def _is_zip(path: Path) -> bool:
    """Whether it is an archive, as torch writes them. Raises ValueError for one that may be of any size inside."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type for entry in archive.infolist()):
            raise ValueError(COMPRESSED)
    return True


def fault(path: Path, error: Exception) -> str:
    """What is wrong with a file: torch's own `error` advises to run the code of one that holds objects."""
    with path.open("rb") as start:
        head = start.read(64)
    if not head:
        return "the file is empty"
    if head.isascii() and b"\0" not in head:
        return "it is a text, as a web page or Git LFS leave it in place of a download"
    if str(error) == COMPRESSED:
        return COMPRESSED
    if "GLOBAL" in str(error):
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        return f"it holds {named[1] if named else 'objects'} beside tensors, and code in a file is never run"
    return "the file is damaged, or no file of weights"
