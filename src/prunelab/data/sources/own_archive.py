"""Reads an archive in CIFAR-10's python format that anybody may have made, as data.md5 allows.

Whatever is in it, nothing is called, nothing is written to disk, and memory is bounded, by about a gigabyte: seven
files as large as they may be, and what they become. Tar headers are read one by one, as tarfile loads extended ones
whole, and files as records (inert_pickle.py), from which arrays are made here.
Format: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import gzip
from pathlib import Path, PurePosixPath
from tarfile import AREGTYPE, BLOCKSIZE, REGTYPE, TarInfo
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunelab.core.text.printable import printable
from prunelab.data.dataset import Dataset
from prunelab.data.sources.inert_pickle import Call, load_inert

FOLDER, META, TEST = "cifar-10-batches-py", "batches.meta", "test_batch"
TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
ROW = 3 * 32 * 32  # bytes of an image: the red plane, then green, then blue
LARGEST = 64 << 20  # bytes of a file: 21,000 images, twice CIFAR-10's; protocol 2 takes 1.5 bytes for one
ARCHIVE = 8 * LARGEST  # bytes, unpacked: seven files, and what else may lie beside them
MEMBERS = 1000  # CIFAR-10 has nine
NAME = 200  # characters of a key or a class


def read_own_archive(path: Path) -> Dataset:
    """All images and class names. Raises RuntimeError with the name of the file that is missing, damaged or odd."""
    part = "the archive"
    try:
        files = unpack(path)
        part = META
        classes = class_names(load_inert(files[META]))
        images = {}
        for part in (*TRAIN, TEST):
            images[part] = batch(load_inert(files.pop(part)), len(classes))
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged or forged file provokes
        remedy = "give one in CIFAR-10's python format, or a folder of images with data=image_folder data.root=DIR"
        raise RuntimeError(f"{path}: {part}: {printable(error):.200}; {remedy}") from error
    return Dataset.from_tensors(tensors([images[name] for name in TRAIN]), tensors([images[TEST]]), classes)


def unpack(path: Path) -> dict[str, bytes]:
    """The content of the seven files; links, and whatever else is in the archive, are passed over."""
    files: dict[str, bytes] = {}
    with gzip.open(path) as stream:
        for _ in range(MEMBERS + 1):
            if not (block := stream.read(BLOCKSIZE)).strip(b"\0"):
                break
            member = TarInfo.frombuf(block, "utf-8", "surrogateescape")
            size = 0 if member.issym() or member.islnk() or member.isdir() or member.isdev() else member.size
            if not 0 <= size <= LARGEST or stream.tell() + size > ARCHIVE:
                raise ValueError(f"{member.name:.80}: {size} bytes, expected at most {LARGEST}, and {ARCHIVE} in all")
            content = exactly(stream, -(-size // BLOCKSIZE) * BLOCKSIZE)[:size]
            folder, _, name = str(PurePosixPath(member.name)).rpartition("/")
            if folder == FOLDER and name in (META, *TRAIN, TEST) and member.type in (REGTYPE, AREGTYPE):
                files[name] = content
        else:
            raise ValueError(f"more than {MEMBERS:,} members")
    if missing := [name for name in (META, *TRAIN, TEST) if name not in files]:
        raise ValueError(f"no {FOLDER}/{missing[0]} in it")
    return files


def exactly(stream: gzip.GzipFile, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise ValueError("truncated")
    return content


def class_names(meta: Any) -> tuple[str, ...]:
    names = fields(meta).get("label_names")
    if type(names) is not list or not names:
        raise ValueError("label_names is no list of names")
    return tuple(map(text, names))


def batch(value: Any, classes: int) -> tuple[np.ndarray, list[int]]:
    """uint8 (n, 3, 32, 32), and n labels in [0, classes)."""
    found = fields(value)
    labels = found.get("labels")
    if type(labels) is not list or not labels or not all(type(y) is int and 0 <= y < classes for y in labels):
        raise ValueError(f"labels is no list of whole numbers (type int) in [0, {classes}), one for each image")
    return pixels(found.get("data"), len(labels)), labels


def pixels(value: Any, n: int) -> np.ndarray:
    """uint8 (n, 3, 32, 32), a view of the bytes in the file."""
    match value:
        case Call("_reconstruct", _, (_, shape, Call("dtype", (code, *_)), fortran, content)):
            pass
        case Call("_frombuffer", (content, Call("dtype", (code, *_)), shape, "C" | "F" as order)):
            fortran = order == "F"
        case _:
            raise ValueError("data is no NumPy array")
    if text(code) != "u1" or shape != (n, ROW) or len(octets(content)) != n * ROW:
        raise ValueError(f"data is not uint8 ({n}, {ROW}), a row for each label")
    flat = np.frombuffer(octets(content), np.uint8)
    return (flat.reshape(ROW, n).T if fortran else flat).reshape(n, 3, 32, 32)


def fields(value: Any) -> dict[str, Any]:
    """A dictionary by text: its keys are bytes where Python 2 wrote it."""
    if type(value) is not dict:
        raise ValueError("no dictionary")
    return {text(key): item for key, item in value.items()}


def text(value: Any) -> str:
    if type(value) is not str:
        value = octets(value).decode()
    if len(value) > NAME:
        raise ValueError(f"a name of more than {NAME} characters")
    return str(value)


def octets(value: Any) -> bytes | bytearray:
    """Bytes, as written by Python 2, by Python 3, or by that in protocol 2, which has none: text to be encoded."""
    match value:
        case bytes() | bytearray():
            return value
        case Call("encode", (str(characters), "latin1")):
            return characters.encode("latin-1")
    raise ValueError("neither text nor bytes where these are expected")


def tensors(batches: list[tuple[np.ndarray, list[int]]]) -> tuple[Tensor, Tensor]:
    """uint8 (n, 3, 32, 32) and int64 (n,)."""
    x = np.concatenate([x for x, _ in batches])  # a copy: the bytes of a file are not writable
    return torch.from_numpy(x), torch.tensor([y for _, labels in batches for y in labels])
