"""JSON files of a job: written whole or not at all; read as what may be damaged, or a stranger's."""

import json
from pathlib import Path
from typing import Any

from prunelab.core.files.atomic import atomic_write


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file. Raises OSError where there is none, and ValueError for anything else in it."""
    try:
        value = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, not {type(value).__name__}")
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes the whole file or nothing. Raises ValueError for NaN, which JSON cannot hold."""
    text = json.dumps(value, indent=1, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text.encode())
