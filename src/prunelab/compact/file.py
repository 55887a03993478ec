"""How does a net with many zeros travel? As one file that is about as small as the entropy of its zeros allows."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from prunelab.channels.plan import Plan
from prunelab.compact import codec, description
from prunelab.compact.codec import Coded, Size, size
from prunelab.core.atomic import atomic_write

KEY = "prunelab"  # in the header's metadata; one key, for safetensors writes several in any order
BROKEN, AGAIN = "no whole safetensors file", "look for the path, or copy it again"
DAMAGED = "do not have their sha256: it was damaged or changed; copy it again"


class Origin(NamedTuple):
    """As `save` takes them: what was cut out, and name and arguments of the unpruned net."""

    plan: Plan
    name: str | None
    args: dict[str, Any]


def save(
    path: str | Path,
    net: nn.Module,
    plan: Plan,
    name: str | None,
    args: Mapping[str, Any],
    values: str = "float32",
    signed_zeros: bool = True,
) -> Size:
    """Writes `net`, which `plan` made small (or `Plan()`), whole or not at all; says how small the file is.

    `name` and `args` as for `description.described`; `values` and `signed_zeros` as for `codec.encode`. Masks that were
    multiplied with leave a -0.0 in half of the places, and then the signs of zeros are most of the file. Raises
    ValueError where the net cannot be rebuilt from them, or has values that are not in `values`.
    """
    try:
        about, tensors = description.described(net, plan, name, args)
        coded = {name: _encoded(name, tensor, values, signed_zeros) for name, tensor in tensors.items()}
        header = json.dumps(_sealed(about, coded), separators=(",", ":"), allow_nan=False)
        whole = safetensors.torch.save(_parts(coded), {KEY: header})
    except ValueError as error:
        raise ValueError(f"{path} is not written: {error}") from error
    with atomic_write(Path(path)) as file:
        file.write(whole)
    return size(len(whole), coded.values())


def load(path: str | Path, into: nn.Module | None = None) -> nn.Module:
    """The net that `save` wrote, in eval mode, in its dtypes and memory format, on the CPU.

    Written as float32 it is the same to the bit. A net that is none of ours comes as `into`, new and unpruned; it is
    cut and filled in place, on its device, and returned; where that fails, it is left as it was. Nothing in the file
    is run or unpickled: it names one of our nets and gives numbers. Raises ValueError for a file that is not there, is
    damaged or is something else, and where it does not fit. Digests tell of damage; they are no help against forgery.
    """
    with _naming(path):
        return description.built(*_read(Path(path)), into)


def origin_of(path: str | Path) -> Origin | None:
    """What the net in a file was made from; None where the file holds nothing but weights.

    Raises ValueError for a file that is cut short or not there; damage within it is told by `load`.
    """
    with _naming(path), _opening(Path(path)) as file:
        if (text := (file.metadata() or {}).get(KEY)) is None:
            return None
        about = description.about_of(text)
        return Origin(description.unpacked(about["plan"]), about["net"], about["args"])


class Compact(Mapping[str, Tensor]):
    """The tensors of a compact file by name. Each is read, checked and decoded when it is asked for, every time.

        with Compact("net.safetensors") as tensors:
            tensors["fc1.weight"]

    Raises ValueError, naming the file, for one that is no whole compact file, and for a tensor that was damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        with _naming(path):
            self._file, self._about = _opened(Path(path))

    def __getitem__(self, name: str) -> Tensor:
        if name not in self:
            raise KeyError(name)
        with _naming(self.path):
            return _tensor(self._file, self._about, name)

    def __contains__(self, name: object) -> bool:
        return name in self._about["tensors"]

    def __iter__(self) -> Iterator[str]:
        return iter(self._about["tensors"])

    def __len__(self) -> int:
        return len(self._about["tensors"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.__exit__(None, None, None)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file says, and all its tensors, which have no tie to it."""
    file, about = _opened(path)
    with file:
        tensors = {name: _tensor(file, about, name) for name in about["tensors"]}
    return about, tensors


def _opened(path: Path) -> tuple[safe_open, dict[str, Any]]:
    """The file and its description, which is whole; of its tensors nothing is read. Errors do not name it."""
    with _opening(path) as file:
        about = description.about_of((file.metadata() or {}).get(KEY))
        keys: set[str] = set(file.keys())
    if _digest(about, {}) != about["sha256"]:
        raise ValueError(f"its description {DAMAGED}")
    records = about.get("tensors")
    if not isinstance(records, dict) or not all(isinstance(record, dict) for record in records.values()):
        raise ValueError(f"its description has a wrong or missing tensors={records!r:.80}: save it anew")
    known = {_key(name, part) for name, record in records.items() for part in codec.names(_said(record))}
    if unknown := sorted(keys - known):
        raise ValueError(f"it holds {unknown[0]!r:.80}, of which its description does not tell: save it anew")
    return safe_open(path, "pt"), about


def _tensor(file: safe_open, about: Mapping[str, Any], name: str) -> Tensor:
    """One tensor, read and checked. Errors do not name the file."""
    record = _said(about["tensors"][name])
    keys = {part: _key(name, part) for part in codec.names(record)}
    try:
        there = set(file.keys())
        parts = {part: file.get_tensor(key) for part, key in keys.items() if key in there}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{name}: {BROKEN}: {error}; {AGAIN}") from error
    if _check(record, parts) != about["tensors"][name].get("sha256"):
        raise ValueError(f"the contents of {name} {DAMAGED}")
    try:
        return codec.decode(record, parts)
    except (KeyError, ValueError, MemoryError) as error:
        raise ValueError(f"{name} cannot be decoded: {error}; save it anew") from error


def _encoded(name: str, tensor: Tensor, values: str, signed_zeros: bool) -> Coded:
    try:
        return codec.encode(tensor, values, signed_zeros)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _sealed(about: Mapping[str, Any], coded: Mapping[str, Coded]) -> dict[str, Any]:
    """The description, with what each tensor is and a digest of it, and one of all that it says."""
    records = {name: {**one.record, "sha256": _check(one.record, one.parts)} for name, one in coded.items()}
    whole = {**about, "tensors": records}
    return {**whole, "sha256": _digest(whole, {})}


def _parts(coded: Mapping[str, Coded]) -> dict[str, Tensor]:
    parts = {_key(name, part): tensor for name, one in coded.items() for part, tensor in one.parts.items()}
    if len(parts) != sum(len(one.parts) for one in coded.values()):
        raise ValueError("a tensor has the name of a part of another: rename it")
    return parts


def _digest(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Of everything but itself: the description with sorted keys, then names, dtypes, shapes and bytes by name."""
    said = {key: value for key, value in about.items() if key != "sha256"}
    found = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _check(record: Mapping[str, Any], parts: Mapping[str, Tensor]) -> str:
    """Sixteen digits: there is one for each tensor, and it is to tell of damage."""
    return _digest(record, parts)[:16]


def _said(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "sha256"}


def _key(name: str, part: str) -> str:
    return name if part == "whole" else f"{name}/{part}"


@contextmanager
def _opening(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{BROKEN}: {error}; {AGAIN}") from error


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from error
