"""The cache of decoded images: mapped, atomic, rebuilt if damaged."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from prunelab.data.dataset import Dataset
from prunelab.data.sources.cache import TENSORS, cache_folder, cached, entry, load, save

X = torch.arange(8 * 3072).remainder(251).to(torch.uint8).view(8, 3, 32, 32)
Y = torch.arange(8) % 2


def decode() -> Dataset:
    return Dataset.from_tensors((X, Y), (X[:2].clone(), Y[:2].clone()), ("cat", "dög"))


def never() -> Dataset:
    raise AssertionError("decoded despite the cache")


def same(a: Dataset, b: Dataset) -> bool:
    tensors = all(torch.equal(getattr(a, n), getattr(b, n)) for n in (*TENSORS, "numbers"))
    return tensors and all(getattr(a, n) == getattr(b, n) for n in ("classes", "mean", "std", "fingerprint"))


def test_second_load_does_not_decode(tmp_path: Path) -> None:
    path = entry(str(tmp_path / "new" / "folder"), "key")
    assert same(cached(path, decode), decode())
    assert same(cached(path, never), decode())
    assert [p.name for p in path.parent.iterdir()] == ["key.safetensors"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
def test_loaded_images_are_memory_mapped(tmp_path: Path) -> None:
    x = cached(tmp_path / "key.safetensors", decode).x_train
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(address, 16) for address in line.split()[0].split("-"))
        if start <= x.data_ptr() < end:
            assert line.endswith("key.safetensors")
            return
    raise AssertionError("the images are not mapped")


def test_a_file_of_0_1_0_is_used_as_it_is(tmp_path: Path) -> None:
    cached(path := tmp_path / "key.safetensors", decode)
    with safe_open(path, framework="pt") as file:
        tensors, header = {name: file.get_tensor(name) for name in TENSORS}, file.metadata()
    save_file(tensors, path, header)
    before = path.read_bytes()
    assert same(cached(path, never), decode())
    assert path.read_bytes() == before


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def garble(path: Path) -> None:
    path.write_bytes(b"\xff" * 100)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def outdate(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"format":"1"', b'"format":"0"'))


@pytest.mark.parametrize("damage", [truncate, garble, empty, outdate])
def test_unusable_file_is_rebuilt_with_a_warning(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "key.safetensors"
    cached(path, decode)
    damage(path)
    with caplog.at_level(logging.WARNING):
        assert same(cached(path, decode), decode())
    assert "key.safetensors: unusable cache file" in caplog.text
    assert same(load(path), decode())


def test_error_names_an_unwritable_folder_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError, match=r"data.cache=.*file: not writable .*PRUNELAB_CACHE"):
        cached(entry(str(tmp_path / "file"), "key"), never)


def test_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key.safetensors"
    save(path, decode())

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RuntimeError, match="no space left"):
        save(path, decode())
    assert list(tmp_path.iterdir()) == [path]
    assert same(load(path), decode())


RACE = """
import multiprocessing, sys
from pathlib import Path
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from prunelab.data.sources.cache import cached
from prunelab.data.dataset import Dataset

torch.set_num_threads(1)
fork = multiprocessing.get_context("fork")
barrier = fork.Barrier(4)

def decode():
    barrier.wait()  # all four found no file and build it at once
    x, y = torch.full((5000, 3, 32, 32), 7, dtype=torch.uint8), torch.zeros(5000, dtype=torch.long)
    x[0, :, 0, 0] = 8
    return Dataset.from_tensors((x, y), (x[:1].clone(), y[:1].clone()), ("a",))

def job(_):
    return int(cached(Path(sys.argv[1]), decode).x_train.float().mean())

with fork.Pool(4) as pool:
    print(pool.map(job, range(4), chunksize=1))
"""


def test_four_processes_that_build_at_once_leave_one_valid_file(tmp_path: Path) -> None:
    path = tmp_path / "key.safetensors"
    process = subprocess.run([sys.executable, "-c", RACE, str(path)], capture_output=True, text=True, timeout=60)
    assert process.stdout.strip() == "[7, 7, 7, 7]", process.stderr
    assert list(tmp_path.iterdir()) == [path]
    assert load(path).x_train.shape == (5000, 3, 32, 32)


@pytest.mark.parametrize(
    ("given", "environment", "folder"),
    [
        ("/given", {"XDG_CACHE_HOME": "/xdg"}, "/given"),
        ("~/given", {}, "/home/me/given"),
        ("", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/prunelab"),
        (None, {"XDG_CACHE_HOME": ""}, "/home/me/.cache/prunelab"),
        (None, {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/prunelab"),
        (None, {}, "/home/me/.cache/prunelab"),
    ],
)
def test_the_folder_is_the_one_given_or_that_of_the_environment(
    given: str | None, environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(name, value)
    assert cache_folder(given) == Path(folder)
