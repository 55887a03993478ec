"""Changes the contents of a compact file, with or without correct checksums."""

import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import safe_open

Parts = dict[str, bytes]  # of each tensor, deflated
Change = Callable[[dict[str, Any], Parts], Any]
KEPT, BYTES, SHA = 2, 5, 6  # in a record, after dtype and shape


def opened(path: Path) -> tuple[dict[str, Any], Parts]:
    """The description, and the bytes of each tensor."""
    with safe_open(path, "np") as file:
        assert json.loads(file.metadata()["prunelab"]).keys() == {"format", "sha256"}
        about, data = json.loads(inflated(file.get_tensor("description"))), file.get_tensor("tensors").tobytes()
    parts: Parts = {}
    for name, record in about["tensors"].items():
        parts[name], data = data[: record[BYTES]], data[record[BYTES] :]
    return about, parts


def rewritten(path: Path, change: Change, signed: bool = True) -> None:
    """Applies `change` to a file. Unless it is `signed` again, the digests of the tensors alone reveal the change."""
    about, parts = opened(path)
    change(about, parts)
    tensors = about.get("tensors")
    for name, record in (tensors if isinstance(tensors, dict) else {}).items():
        if signed and isinstance(record, list):
            record[BYTES:] = [len(parts.get(name, b"")), digest(parts.get(name, b""))]
    write(path, deflated(json.dumps(about).encode()), b"".join(parts.values()))


def write(path: Path, description: bytes, data: bytes, header: dict[str, Any] | None = None) -> None:
    header = {"format": 3, "sha256": digest(description)} | (header or {})
    tensors = {"description": np.frombuffer(description, np.uint8), "tensors": np.frombuffer(data, np.uint8)}
    path.write_bytes(safetensors.numpy.save(tensors, {"prunelab": json.dumps(header)}))


def digest(data: bytes) -> str:
    """As in the format: sixteen digits of SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def deflated(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


def inflated(data: Any) -> bytes:
    return zlib.decompress(data, wbits=-15)
