"""Compact model files: safetensors about as small as the entropy of the zeros allows."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from prunelab.channels.plan import Plan
from prunelab.compact import codec, description
from prunelab.compact.codec import Encoded, Size, size
from prunelab.core.atomic import atomic_write

KEY = "prunelab"  # in the header's metadata; a single key, because safetensors writes several in any order
BROKEN, REMEDY = "not a complete safetensors file", "check the path, or copy the file again"
DAMAGED = "does not match its sha256: the file is damaged or was changed; copy it again"


class Origin(NamedTuple):
    """As given to `save`: what was removed, and name and arguments of the unpruned network."""

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
    """Writes `net`, which `plan` made small (or `Plan()`), atomically; returns the size of the file.

    `name` and `args` as for `description.describe`; `values` and `signed_zeros` as for `codec.encode`. Multiplying by a
    mask leaves -0.0 at half of its zeros, and then their signs are most of the file. Raises ValueError where the
    network cannot be rebuilt, or has weights that `values` cannot represent.
    """
    try:
        about, tensors = description.describe(net, plan, name, args)
        encoded = {name: _encode(name, tensor, values, signed_zeros) for name, tensor in tensors.items()}
        header = json.dumps(_sealed(about, encoded), separators=(",", ":"), allow_nan=False)
        content = safetensors.torch.save(_parts(encoded), {KEY: header})
    except ValueError as error:
        raise ValueError(f"{path} is not written: {error}") from error
    with atomic_write(Path(path)) as file:
        file.write(content)
    return size(len(content), encoded.values())


def load(path: str | Path, into: nn.Module | None = None) -> nn.Module:
    """The network that `save` wrote, in eval mode, in its dtypes and memory format, on the CPU.

    Written as float32 it is the same to the bit. For a network that is not one of prunelab's give `into`, new and
    unpruned; it is shrunk and filled in place, on its device, and returned; if that fails, it is unchanged. Nothing in
    the file is executed or unpickled: it names a network of prunelab and holds numbers. Raises ValueError for a file
    that is missing, damaged, of another kind, or does not fit. Digests detect damage, not forgery.
    """
    with _name_in_errors(path):
        file, about = _opened(Path(path))
        with file:
            shapes = {name: _shape(file, about, name) for name in about["tensors"]}
            return description.rebuild(
                about, shapes, lambda: {name: _tensor(file, about, name) for name in about["tensors"]}, into
            )


def origin_of(path: str | Path) -> Origin | None:
    """What the network in a file was made from; None for a file of bare weights.

    Raises ValueError for a file that is truncated or missing; damage within it is detected by `load`.
    """
    with _name_in_errors(path), _whole_file(Path(path)) as file:
        if (text := (file.metadata() or {}).get(KEY)) is None:
            return None
        about = description.parse_header(text)
        return Origin(description.unpack_plan(about["plan"]), about["net"], about["args"])


class Compact(Mapping[str, Tensor]):
    """The tensors of a compact file by name. Each access reads, checks and decodes one.

        with Compact("net.safetensors") as tensors:
            tensors["fc1.weight"]

    Raises ValueError, naming the file, for one that is not a complete compact file, and for a damaged tensor.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        with _name_in_errors(path):
            self._file, self._about = _opened(Path(path))

    def __getitem__(self, name: str) -> Tensor:
        if name not in self:
            raise KeyError(name)
        with _name_in_errors(self.path):
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


def _opened(path: Path) -> tuple[safe_open, dict[str, Any]]:
    """The file and its checked description; no tensor is read. Errors do not name the file."""
    with _whole_file(path) as file:
        about = description.parse_header((file.metadata() or {}).get(KEY))
        keys: set[str] = set(file.keys())
    if _digest(about, {}) != about["sha256"]:
        raise ValueError(f"its description {DAMAGED}")
    records = about.get("tensors")
    if not isinstance(records, dict) or not all(isinstance(record, dict) for record in records.values()):
        raise ValueError(f"its description has a wrong or missing tensors={records!r:.80}: save it again")
    if odd := [name for name in records if not name.isprintable()]:
        raise ValueError(f"its description has a tensor {odd[0]!r:.80}: rename it")
    known = {_key(name, part) for name, record in records.items() for part in codec.part_names(_without_digest(record))}
    if unknown := sorted(keys - known):
        raise ValueError(f"it holds {unknown[0]!r:.80}, which is not in its description: save it again")
    return safe_open(path, "pt"), about


def _shape(file: safe_open, about: Mapping[str, Any], name: str) -> Sequence[int]:
    """The shape that a tensor will have, without reading it. Errors do not name the file."""
    record = _without_digest(about["tensors"][name])
    try:
        return codec.shape_of(record) if record else file.get_slice(name).get_shape()
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{name} cannot be decoded: {error}; save it again") from error


def _tensor(file: safe_open, about: Mapping[str, Any], name: str) -> Tensor:
    """Reads and checks one tensor. Errors do not name the file."""
    record = _without_digest(about["tensors"][name])
    keys = {part: _key(name, part) for part in codec.part_names(record)}
    try:
        present = set(file.keys())
        parts = {part: file.get_tensor(key) for part, key in keys.items() if key in present}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{name}: {BROKEN}: {error}; {REMEDY}") from error
    if _check(record, parts) != about["tensors"][name].get("sha256"):
        raise ValueError(f"the content of {name} {DAMAGED}")
    try:
        return codec.decode(record, parts)
    except (KeyError, ValueError, MemoryError) as error:
        raise ValueError(f"{name} cannot be decoded: {error}; save it again") from error


def _encode(name: str, tensor: Tensor, values: str, signed_zeros: bool) -> Encoded:
    try:
        return codec.encode(tensor, values, signed_zeros)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _sealed(about: Mapping[str, Any], encoded: Mapping[str, Encoded]) -> dict[str, Any]:
    """The description with a record and digest of each tensor, and a digest of the whole."""
    records = {name: {**c.record, "sha256": _check(c.record, c.parts)} for name, c in encoded.items()}
    complete = {**about, "tensors": records}
    return {**complete, "sha256": _digest(complete, {})}


def _parts(encoded: Mapping[str, Encoded]) -> dict[str, Tensor]:
    parts = {_key(name, part): tensor for name, c in encoded.items() for part, tensor in c.parts.items()}
    if len(parts) != sum(len(c.parts) for c in encoded.values()):
        raise ValueError("a tensor has the same name as a part of another: rename it")
    return parts


def _digest(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Of all but the digest: the description with sorted keys, then dtypes, shapes and bytes in order of names."""
    digest = hashlib.sha256(json.dumps(_without_digest(about), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check(record: Mapping[str, Any], parts: Mapping[str, Tensor]) -> str:
    """Sixteen digits, one for each tensor: enough to detect damage."""
    return _digest(record, parts)[:16]


def _without_digest(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "sha256"}


def _key(name: str, part: str) -> str:
    return name if part == "whole" else f"{name}/{part}"


@contextmanager
def _whole_file(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{BROKEN}: {error}; {REMEDY}") from error


@contextmanager
def _name_in_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from error
