"""How does a net with many zeros travel? As one file that is about as small as the entropy of its zeros allows."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from prunelab.channels import artefact
from prunelab.channels.plan import Plan
from prunelab.compact import codec
from prunelab.compact.codec import Coded
from prunelab.compact.size import Size, size
from prunelab.core.files import written_whole

FORMATS = (artefact.FORMAT, artefact.COMPACT)


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

    `name` and `args` as for `artefact.save`; `values` and `signed_zeros` as for `codec.encode`. Masks that were
    multiplied with leave a -0.0 in half of the places, and then the signs of zeros are most of the file. Raises
    ValueError where the net cannot be rebuilt from them, or has values that are not in `values`.
    """
    try:
        about, tensors = artefact.described(net, plan, name, args)
        coded = {name: _encoded(name, tensor, values, signed_zeros) for name, tensor in tensors.items()}
        whole = artefact.serialized(_sealed(about, coded), _parts(coded))
    except ValueError as error:
        raise ValueError(f"{path} is not written: {error}") from error
    with written_whole(Path(path)) as file:
        file.write(whole)
    return size(len(whole), coded.values())


def load(path: str | Path, into: nn.Module | None = None) -> nn.Module:
    """The net of a compact file or of one of format 1, as `artefact.load`; in float32 the same to the bit.

    Nothing is run or unpickled. Raises ValueError for a file that is not there, is damaged, does not fit or is newer.
    """
    return artefact.build(path, into, read)


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


def read(path: Path) -> artefact.Read:
    """What a file of either format says, and all its tensors, which have no tie to it."""
    if _format(path) == artefact.FORMAT:
        return artefact.read(path)
    file, about = _opened(path)
    with file:
        tensors = {name: _tensor(file, about, name) for name in about["tensors"]}
    return about, artefact.in_memory_format(about, tensors)


def _format(path: Path) -> int:
    with _opening(path) as file:
        version: int = artefact.about_of((file.metadata() or {}).get(artefact.KEY), FORMATS)["format"]
        return version


def _opened(path: Path) -> tuple[safe_open, dict[str, Any]]:
    """The file and its description, which is whole; of its tensors nothing is read. Errors do not name it."""
    with _opening(path) as file:
        about = artefact.about_of((file.metadata() or {}).get(artefact.KEY), (artefact.COMPACT,))
        keys: set[str] = set(file.keys())
    if artefact.digest(about, {}) != about["sha256"]:
        raise ValueError(f"its description {artefact.DAMAGED}")
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
        raise ValueError(f"{name}: {artefact.BROKEN}: {error}; {artefact.AGAIN}") from error
    if _check(record, parts) != about["tensors"][name].get("sha256"):
        raise ValueError(f"the contents of {name} {artefact.DAMAGED}")
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
    whole = {**about, "format": artefact.COMPACT, "tensors": records}
    return {**whole, "sha256": artefact.digest(whole, {})}


def _parts(coded: Mapping[str, Coded]) -> dict[str, Tensor]:
    parts = {_key(name, part): tensor for name, one in coded.items() for part, tensor in one.parts.items()}
    if len(parts) != sum(len(one.parts) for one in coded.values()):
        raise ValueError("a tensor has the name of a part of another: rename it")
    return parts


def _check(record: Mapping[str, Any], parts: Mapping[str, Tensor]) -> str:
    """Sixteen digits: there is one for each tensor, and it is to tell of damage."""
    return artefact.digest(record, parts)[:16]


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
        raise ValueError(f"{artefact.BROKEN}: {error}; {artefact.AGAIN}") from error


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from error
