"""A compact file taken apart, changed and put together again, with the checksums that its writer would give it."""

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
    """What the file says of its net, and what it holds, by the names in the file."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["prunelab"]), safetensors.torch.load_file(path)


def rewritten(path: Path, change: Change, signed: bool = True) -> None:
    """Changes a file. Only where it is `signed` anew do other checks than those of the digests see the change."""
    about, parts = opened(path)
    change(about, parts)
    if signed:
        for name, record in records(about).items():
            said = {key: value for key, value in record.items() if key != "sha256"}
            keys = {part: f"{name}/{part}" for part in PARTS} if said else {"whole": name}
            own = {part: parts[key] for part, key in keys.items() if key in parts}
            record["sha256"] = digest(record, own)[:16]
        about["sha256"] = digest(about, {})
    path.write_bytes(safetensors.torch.save(parts, {"prunelab": json.dumps(about)}))


def records(about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = about.get("tensors")
    return {n: r for n, r in found.items() if isinstance(r, dict)} if isinstance(found, dict) else {}


def digest(said: dict[str, Any], tensors: Parts) -> str:
    """As the format has it: what is said but the digest, then name, dtype, shape and bytes of each tensor by name."""
    whole = json.dumps({key: value for key, value in said.items() if key != "sha256"}, sort_keys=True).encode()
    for name, t in sorted(tensors.items()):
        whole += json.dumps([name, str(t.dtype), list(t.shape)]).encode()
        whole += bytes(t.flatten().view(torch.uint8).tolist())
    return hashlib.sha256(whole).hexdigest()
