"""Compact model files: safetensors of a deflated description and deflated tensors."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from prunelab.channels.plan import Plan
from prunelab.compact import codec, description
from prunelab.compact.codec import DAMAGED, Record, digest
from prunelab.core.files.atomic import atomic_write
from prunelab.core.network.compiled import plain

FORMAT = 3
KEY = "prunelab"  # in the header's metadata; a single key, because safetensors writes several in any order
DESCRIPTION, TENSORS = "description", "tensors"
REMEDY = "check the path, or copy the file again"
OTHER = "another version of prunelab reads it (2: before 0.2.0); or run the job again with rerun=true"


class Origin(NamedTuple):
    """As given to `save`: what was removed, and name and arguments of the unpruned network."""

    plan: Plan
    name: str | None
    args: dict[str, Any]


def save(
    path: str | Path,
    net: nn.Module,
    plan: Plan | None = None,
    name: str | None = None,
    args: Mapping[str, Any] | None = None,
    values: str = "float32",
    signed_zeros: bool = True,
) -> int:
    """Writes `net`, which `plan` made small if there is one, atomically; returns the bytes of the file.

    `name` and `args`, of a network of prunelab, as for `description.describe`; `values` and `signed_zeros` as for
    `codec.encode`. Buffers, and parameters with a single axis longer than 1, are never rounded. Multiplying by a mask
    leaves -0.0 at half of its zeros, and then their signs are most of the file. Raises ValueError where the network
    cannot be rebuilt, or has weights that `values` cannot represent.
    """
    try:
        about, tensors = description.describe(net, plan or Plan(), name, args or {})
        rounded = dict.fromkeys(_weights(plain(net, tensors)), values)  # by the names of the tensors
        encoded = {n: _encode(n, t, rounded.get(n, "float32"), signed_zeros) for n, t in tensors.items()}
        text = description.pack({**about, "tensors": {name: record for name, (record, _) in encoded.items()}})
    except ValueError as error:
        raise ValueError(f"{path} is not written: {error}") from error
    parts = {DESCRIPTION: text, TENSORS: b"".join(data for _, data in encoded.values())}
    header = {KEY: json.dumps({"format": FORMAT, "sha256": digest(text)})}
    content = safetensors.numpy.save({key: np.frombuffer(data, np.uint8) for key, data in parts.items()}, header)
    with atomic_write(Path(path)) as file:
        file.write(content)
    return len(content)


def load(path: str | Path, into: nn.Module | None = None) -> nn.Module:
    """The network that `save` wrote, in eval mode, in its dtypes and memory format, on the CPU.

    Written as float32 it is the same to the bit. For a network that is not one of prunelab's give `into`, new and
    unpruned; it is shrunk and filled in place, on its device, and returned; if that fails, it is unchanged. Nothing in
    the file is executed or unpickled: it names a network of prunelab and holds numbers. Raises ValueError for a file
    that is missing, damaged, of another kind, or does not fit. Digests detect damage, not forgery.
    """
    with Compact(path) as file, _name_in_errors(path):
        shapes = {name: record.shape for name, record in file.records.items()}
        return description.rebuild(file.about, shapes, lambda: {name: file.decoded(name) for name in file}, into)


def origin_of(path: str | Path) -> Origin | None:
    """What the network in a file was made from; None for a file of bare weights.

    Raises ValueError for a file that is truncated or missing, or whose description is damaged; `load` finds damage to
    tensors.
    """
    with _name_in_errors(path):
        file = _opened(Path(path))
        if KEY not in (file.metadata() or {}):
            return None
        about = _description(file)
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
            self._file = _opened(Path(path))
            self.about = _description(self._file)
            self.records = {name: _checked(name, fields) for name, fields in self.about["tensors"].items()}
            ends = list(accumulate((record.bytes for record in self.records.values()), initial=0))
            self._data, self._begins = self._file.get_slice(TENSORS), dict(zip(self.records, ends, strict=False))
            if self._data.get_shape() != ends[-1:]:
                raise ValueError(f"its tensors do not take {ends[-1]:,} bytes: save it again")

    def decoded(self, name: str) -> Tensor:
        """One tensor. Errors do not name the file."""
        record, begin = self.records[name], self._begins[name]
        try:
            return codec.decode(record, self._data[begin : begin + record.bytes].tobytes())
        except (ValueError, RuntimeError, TypeError, MemoryError) as error:
            raise ValueError(f"{name} cannot be decoded: {error}") from error

    def __getitem__(self, name: str) -> Tensor:
        if name not in self:
            raise KeyError(name)
        with _name_in_errors(self.path):
            return self.decoded(name)

    def __contains__(self, name: object) -> bool:
        return name in self.records

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.__exit__(None, None, None)


def _opened(path: Path) -> safe_open:
    if path.is_dir():
        raise ValueError("a folder: give the file, which in that of a finished job is model.safetensors")
    try:
        return safe_open(path, "np")
    except (OSError, SafetensorError) as error:
        raise ValueError(f"not a complete safetensors file: {error}; {REMEDY}") from error


def _description(file: safe_open) -> dict[str, Any]:
    """The checked description; no tensor is read. Errors do not name the file."""
    if (text := (file.metadata() or {}).get(KEY)) is None:
        raise ValueError("safetensors without prunelab's description: load bare weights with pretrained=")
    header = description.parsed(text)
    if type(version := header.get("format")) is not int or version != FORMAT:
        raise ValueError(f"format={version!r:.80}: expected {FORMAT}; {OTHER}")
    if other := {DESCRIPTION, TENSORS} ^ set(file.keys()):
        raise ValueError(f"{min(other)!r:.80} is missing or unknown in it: save it again")
    if digest(data := file.get_tensor(DESCRIPTION).tobytes()) != header.get("sha256"):
        raise ValueError(f"its description {DAMAGED}")
    return description.unpack(data)


def _checked(name: str, fields: Any) -> Record:
    if not name.isprintable():
        raise ValueError(f"its description has a tensor {name!r:.80}: rename it")
    try:
        return codec.checked(fields)
    except ValueError as error:
        raise ValueError(f"{name} cannot be decoded: {error}; save it again") from error


def _weights(net: nn.Module) -> Iterator[str]:
    """What may be rounded. A bias or a scale may be (channels, 1, 1)."""
    for name, parameter in net.named_parameters(remove_duplicate=False):
        if parameter.numel() > max(parameter.shape, default=1):
            yield name


def _encode(name: str, tensor: Tensor, values: str, signed_zeros: bool) -> tuple[Record, bytes]:
    try:
        return codec.encode(tensor, values, signed_zeros)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


@contextmanager
def _name_in_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
