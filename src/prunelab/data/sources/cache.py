"""Where are decoded images kept, so that the next job maps them instead of decoding them again?

One safetensors file for each data set. Loading maps it: 1 ms for 184 MB, and the jobs of a machine share the
pages. Jobs that start together may all build it: each writes a file of its own, and the last rename wins.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from prunelab.data.dataset import Decoded

log = logging.getLogger(__name__)
DEFAULT_FOLDER = "~/.cache/prunelab"
FORMAT = "1"  # raise it when the layout or the meaning of the file changes: older files are then rebuilt
TENSORS = ("x_train", "y_train", "x_test", "y_test")
TUPLES = ("classes", "mean", "std")


def entry(folder: str, key: str) -> Path:
    """The file that holds the data set `key`."""
    return Path(folder).expanduser() / f"{key}.safetensors"


def cached(path: Path, decode: Callable[[], Decoded]) -> Decoded:
    """What `path` holds, mapped; decoded and written first where it is missing, damaged or of another format.

    Truncation and a damaged header are noticed; changed pixels are not, for that would take reading them all.
    Raises RuntimeError if the folder cannot be written.
    """
    if path.exists():
        try:
            return load(path)
        except (SafetensorError, ValueError, KeyError, OSError) as error:
            log.warning("%s: not a usable cache file (%s); building it again", path, error)
    require_writable(path.parent)
    save(path, decode())
    return load(path)


def load(path: Path) -> Decoded:
    with safe_open(path, framework="pt") as file:
        about = file.metadata() or {}
        if about.get("format") != FORMAT:
            raise ValueError(f"format {about.get('format')}, expected {FORMAT}")
        fields: dict[str, Any] = {name: file.get_tensor(name) for name in TENSORS}
    fields |= {name: tuple(json.loads(about[name])) for name in TUPLES}
    return Decoded(**fields, fingerprint=about["fingerprint"])


def save(path: Path, decoded: Decoded) -> None:
    """Write durably under another name, then rename: a reader sees the old file, or the whole new one."""
    about = {k: json.dumps(getattr(decoded, k)) for k in TUPLES}
    about |= {"format": FORMAT, "fingerprint": decoded.fingerprint}
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        save_file({name: getattr(decoded, name) for name in TENSORS}, part, about)
        part.chmod(0o644)  # safetensors writes 0600: a shared cache would serve its first user alone
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise unwritable(path.parent, error) from error
    finally:
        part.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Make the folder and try a file in it; raises RuntimeError where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: Exception) -> RuntimeError:
    return RuntimeError(
        f"data.cache={folder}: cannot be written ({error}); "
        "set data.cache or the environment variable PRUNELAB_CACHE to a folder that can"
    )
