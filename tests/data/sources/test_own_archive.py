"""Images of one's own in CIFAR-10's format: read to the bit, or refused in a line that names the file."""

import gzip
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prunelab.data.sources import own_archive
from prunelab.data.sources.own_archive import LARGEST, read_own_archive

Write = Callable[[dict[str, bytes]], Path]
NAMES = ["cat", "dog", "Bär"]
SIZES = {**{f"data_batch_{i}": i for i in range(1, 6)}, "test_batch": 4}  # images


@pytest.fixture
def own() -> dict[str, dict[str, Any]]:
    """Three classes in files of different lengths."""
    rng = np.random.default_rng(2)
    batches = {
        name: {"data": rng.integers(0, 256, (n, 3072), np.uint8), "labels": rng.integers(0, 3, n).tolist()}
        for name, n in SIZES.items()
    }
    return batches | {"batches.meta": {"label_names": NAMES, "num_vis": 3072}}


def assert_equal(path: Path, own: dict[str, dict[str, Any]]) -> None:
    dataset = read_own_archive(path)
    train, test = [own[f"data_batch_{i}"] for i in range(1, 6)], own["test_batch"]
    assert dataset.classes == tuple(NAMES)
    assert (dataset.x_train.dtype, dataset.x_train.shape) == (torch.uint8, (15, 3, 32, 32))
    assert (dataset.y_train.dtype, dataset.y_test.tolist()) == (torch.int64, test["labels"])
    assert np.array_equal(dataset.x_train.flatten(1).numpy(), np.concatenate([part["data"] for part in train]))
    assert dataset.y_train.tolist() == [label for part in train for label in part["labels"]]
    assert np.array_equal(dataset.x_test.flatten(1).numpy(), test["data"])


def as_bytes(part: dict[str, Any]) -> dict[bytes, Any]:
    """Keys and names of classes as Python 2 has them."""
    names = {"label_names": [name.encode() for name in NAMES]} if "label_names" in part else {}
    return {key.encode(): value for key, value in (part | names).items()}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("keys", [dict, as_bytes])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_archive_of_ones_own_is_read_to_the_bit(
    protocol: int, keys: Callable[[dict[str, Any]], Any], order: Any, own: dict[str, Any], write_archive: Write
) -> None:
    for name in SIZES:
        own[name]["data"] = np.asarray(own[name]["data"], order=order)
    path = write_archive({name: pickle.dumps(keys(part), protocol) for name, part in own.items()})
    assert_equal(path, own)


def test_an_archive_of_python_2_is_read_to_the_bit(
    own: dict[str, Any], write_archive: Write, python2_dumps: Callable[[object], bytes]
) -> None:
    assert_equal(write_archive({name: python2_dumps(as_bytes(part)) for name, part in own.items()}), own)


def test_other_members_are_passed_over(own: dict[str, Any], tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "own.tar.gz", tmp_path / "elsewhere"
    elsewhere.write_bytes(b"?")
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "cifar-10-batches-py/readme.html", b"?")
        for name, part in own.items():
            add(tar, f"./cifar-10-batches-py/{name}", pickle.dumps(part), mtime=0.5)  # needs an extended header
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            odd = tarfile.TarInfo("cifar-10-batches-py/test_batch")
            odd.type, odd.linkname = kind, str(elsewhere)
            tar.addfile(odd)
        add(tar, "other/test_batch", b"?")
        add(tar, "../test_batch", b"?")
    assert_equal(path, own)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["elsewhere", "own.tar.gz"]


def add(tar: tarfile.TarFile, name: str, content: bytes, mtime: float = 0) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(content), mtime  # type: ignore[assignment]
    tar.addfile(info, io.BytesIO(content))


class System:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch owned",)


def forged(**changes: Any) -> dict[str, Any]:
    return {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 2]} | changes


def reconstruct(shape: bytes, code: bytes = b"u1", content: bytes = b"U\x04abcd") -> bytes:
    """A file of two labels, and an array of protocol 2 with any shape and dtype."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01" + shape
    array += b"cnumpy\ndtype\nU\x02" + code + b"K\x00K\x01\x87R\x89"
    return b"\x80\x02}(U\x06labels](K\x00K\x02eU\x04data" + array + content + b"tbu."


HUGE = b"\x8a\x05\x00\x00\x00\x00\x40"  # 2**38
SHAPE = r"data is not uint8 \(2, 3072\), a row for each label"
LABELS = r"labels is no list of whole numbers \(type int\) in \[0, 3\)"
FORGED: dict[str, tuple[str, object]] = {
    "os.system": (r"'(posix|nt).system': not a call", System()),
    "os.system in the data": (r"'(posix|nt).system': not a call", forged(data=System())),
    "a huge shape": (SHAPE, reconstruct(HUGE + HUGE + b"\x86")),
    "a huge shape of no bytes": (SHAPE, reconstruct(b"K\x02M\x00\x0c\x86")),
    "nested shape": (SHAPE, reconstruct(b")" + b"\x85" * 100_000)),
    "bytes as pointers": (SHAPE, reconstruct(b"K\x02M\x00\x0c\x86", b"O8")),
    "a length above the file's": ("only 0 remain", b"\x80\x05\x8e" + (1 << 62).to_bytes(8, "little")),
    "another order": ("data is no NumPy array", pickle.dumps(forged(), 5).replace(b"\x8c\x01C", b"\x8c\x01K")),
    "objects": ("not a call|not uint8", forged(data=np.array([None], object))),
    "signed": (SHAPE, forged(data=np.zeros((2, 3072), np.int8))),
    "short rows": (SHAPE, forged(data=np.zeros((2, 3071), np.uint8))),
    "rows for columns": (SHAPE, forged(data=np.zeros((3072, 2), np.uint8))),
    "fewer rows": (SHAPE, forged(data=np.zeros((1, 3072), np.uint8))),
    "no data": ("data is no NumPy array", {"labels": [0]}),
    "a list for data": ("data is no NumPy array", forged(data=[0])),
    "label above": (LABELS, forged(labels=[0, 3])),
    "label below": (LABELS, forged(labels=[-1, 0])),
    "huge label": (LABELS, forged(labels=[0, 1 << 900])),
    "label as a fraction": (LABELS, forged(labels=[0, 0.5])),
    "labels as a tuple": (LABELS, forged(labels=(0, 1))),
    "labels as numbers of NumPy": ("'numpy._core.multiarray.scalar': not a call", forged(labels=[np.int64(0)] * 2)),
    "no labels": (LABELS, {"data": np.zeros((2, 3072), np.uint8)}),
    "no images": (LABELS, forged(labels=[])),
    "no dictionary": ("no dictionary", [1]),
    "a long error": ("no string quotes", b"S" + b"x" * 10_000 + b"\n."),
    "long key": ("more than 200 characters", {"k" * 201: 0}),
}


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch"])
@pytest.mark.parametrize("case", FORGED)
def test_a_forged_file_is_refused_by_name(
    case: str, name: str, own: dict[str, Any], write_archive: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    reason, content = FORGED[case]
    members = {member: pickle.dumps(part) for member, part in own.items()}
    path = write_archive(members | {name: content if isinstance(content, bytes) else pickle.dumps(content)})
    with pytest.raises(RuntimeError, match=rf"^{path}: {name}: .*{reason}.*; give .*data=image_folder") as error:
        read_own_archive(path)
    assert len(str(error.value)) < len(str(path)) + 350
    assert [file.name for file in tmp_path.iterdir()] == ["mirror"]


@pytest.mark.parametrize("names", [None, [], "cat", [1], ["x" * 201], [b"\xff"]])
def test_names_of_classes_are_a_list_of_text(names: Any, own: dict[str, Any], write_archive: Write) -> None:
    own["batches.meta"]["label_names"] = names
    with pytest.raises(RuntimeError, match=r"gz: batches\.meta: "):
        read_own_archive(write_archive({name: pickle.dumps(part) for name, part in own.items()}))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_archive_is_refused(share: float, own: dict[str, Any], write_archive: Write) -> None:
    path = write_archive({name: pickle.dumps(part) for name, part in own.items()})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(RuntimeError, match=rf"^{path}: the archive: .*; give"):
        read_own_archive(path)


def test_an_archive_that_was_packed_truncated_is_refused(own: dict[str, Any], write_archive: Write) -> None:
    path = write_archive({name: pickle.dumps(part) for name, part in own.items()})
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:9000]))
    with pytest.raises(RuntimeError, match="the archive: truncated; give"):
        read_own_archive(path)


def test_a_missing_file_is_named(own: dict[str, Any], write_archive: Write) -> None:
    del own["data_batch_4"]
    with pytest.raises(RuntimeError, match="no cifar-10-batches-py/data_batch_4 in it"):
        read_own_archive(write_archive({name: pickle.dumps(part) for name, part in own.items()}))


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("size", [LARGEST + 1, 1 << 62, -512])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_member_of_a_forged_size_is_refused_before_it_is_read(size: int, kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "own.tar.gz"
    path.write_bytes(gzip.compress(header("\x1b[2J/data_batch_1", size, kind)))
    with pytest.raises(RuntimeError, match=rf"data_batch_1: {size} bytes, expected at most {LARGEST}") as error:
        read_own_archive(path)
    assert str(error.value).isprintable()


def test_a_bomb_is_read_no_further_than_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    largest, archive = 1 << 20, 8 << 20
    monkeypatch.setattr(own_archive, "LARGEST", largest)
    monkeypatch.setattr(own_archive, "ARCHIVE", archive)
    path, read = tmp_path / "bomb.tar.gz", list[int]()
    path.write_bytes(gzip.compress((header("zeros", largest) + bytes(largest)) * 20))
    take = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, n: read.append(n) or take(self, n))
    with pytest.raises(RuntimeError, match=f"zeros: {largest} bytes, expected at most {largest}, and {archive} in all"):
        read_own_archive(path)
    assert max(read) <= largest
    assert archive / 2 < sum(read) <= archive


def test_an_archive_of_many_empty_members_is_read_no_further_than_their_number(tmp_path: Path) -> None:
    path = tmp_path / "own.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for i in range(own_archive.MEMBERS + 1):
            tar.addfile(tarfile.TarInfo(f"empty{i}"))
    with pytest.raises(RuntimeError, match="more than 1,000 members"):
        read_own_archive(path)
