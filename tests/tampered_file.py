"""Changes the contents of a compact file, with or without correct checksums."""

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
    """The description and the tensors of the file, by their names in it."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["prunelab"]), safetensors.torch.load_file(path)


def rewritten(path: Path, change: Change, signed: bool = True) -> None:
    """Applies `change` to a file. Unless it is `signed` again, the digests alone reveal the change."""
    about, parts = opened(path)
    change(about, parts)
    if signed:
        for name, record in records(about).items():
            compressed = any(key != "sha256" for key in record)
            keys = {part: f"{name}/{part}" for part in PARTS} if compressed else {"whole": name}
            tensors = {part: parts[key] for part, key in keys.items() if key in parts}
            record["sha256"] = digest(record, tensors)[:16]
        about["sha256"] = digest(about, {})
    path.write_bytes(safetensors.torch.save(parts, {"prunelab": json.dumps(about)}))


def records(about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    tensors = about.get("tensors")
    return {n: r for n, r in tensors.items() if isinstance(r, dict)} if isinstance(tensors, dict) else {}


def digest(record: dict[str, Any], tensors: Parts) -> str:
    """As in the format: SHA-256 of `record` without its digest, then name, dtype, shape and bytes of each tensor."""
    content = json.dumps({key: value for key, value in record.items() if key != "sha256"}, sort_keys=True).encode()
    for name, t in sorted(tensors.items()):
        content += json.dumps([name, str(t.dtype), list(t.shape)]).encode()
        content += bytes(t.flatten().view(torch.uint8).tolist())
    return hashlib.sha256(content).hexdigest()
