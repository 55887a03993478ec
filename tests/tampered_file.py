"""Changes compact files and signs them again with valid checksums."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

Parts = dict[str, Tensor]
PARTS = ("values", "kept", "minus", "scale")
Change = Callable[[dict[str, Any], Parts], Any]


def opened(path: Path) -> tuple[dict[str, Any], Parts]:
    """The description of a file, and its parts by their names in the file."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["prunelab"]), safetensors.torch.load_file(path)


def rewritten(path: Path, change: Change, signed: bool = True) -> None:
    """Changes a file. Unless it is `signed` again, the digests catch the change before any other check."""
    about, parts = opened(path)
    change(about, parts)
    if signed:
        for name, record in records(about).items():
            encoded = any(key != "sha256" for key in record)
            keys = {part: f"{name}/{part}" for part in PARTS} if encoded else {"whole": name}
            record["sha256"] = digest(record, {part: parts[key] for part, key in keys.items() if key in parts})[:16]
        about["sha256"] = digest(about, {})
    path.write_bytes(safetensors.torch.save(parts, {"prunelab": json.dumps(about)}))


def records(about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    tensors = about.get("tensors")
    return {n: r for n, r in tensors.items() if isinstance(r, dict)} if isinstance(tensors, dict) else {}


def digest(about: dict[str, Any], tensors: Parts) -> str:
    """By the format: all but the digest, then name, dtype, shape and bytes of each tensor in order of names."""
    whole = json.dumps({key: value for key, value in about.items() if key != "sha256"}, sort_keys=True).encode()
    for name, t in sorted(tensors.items()):
        whole += json.dumps([name, str(t.dtype), list(t.shape)]).encode()
        whole += bytes(t.flatten().view(torch.uint8).tolist())
    return hashlib.sha256(whole).hexdigest()
