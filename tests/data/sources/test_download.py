"""Atomic downloads, checksums and timeouts."""

import hashlib
import socket
import threading
import time
from pathlib import Path

import pytest

from prunelab.data.sources.download import fetch, probe, verify


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    path = tmp_path / "mirror.bin"
    path.write_bytes(b"0123456789" * 300_000)
    return path


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_download_is_complete_and_leaves_no_other_file(mirror: Path, tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file"
    target.parent.mkdir()
    probe(mirror.as_uri())
    fetch(mirror.as_uri(), target, md5(mirror))
    assert target.read_bytes() == mirror.read_bytes()
    assert list(target.parent.iterdir()) == [target]


def test_download_with_a_wrong_checksum_is_removed(mirror: Path, tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file"
    target.parent.mkdir()
    with pytest.raises(RuntimeError, match=f"MD5 {md5(mirror)}, expected abc; the download was removed"):
        fetch(mirror.as_uri(), target, "abc")
    assert list(target.parent.iterdir()) == []


def test_failed_download_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the download failed"):
        fetch((tmp_path / "nothing").as_uri(), tmp_path / "file", "abc")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:9/x", "file:///no/such/file"])
def test_error_names_a_dead_url(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(RuntimeError, match=f"^{url}: no answer"):
        probe(url)


def test_silent_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        with pytest.raises(RuntimeError, match=r"no answer within 0.3 s"):
            probe(f"http://127.0.0.1:{server.getsockname()[1]}/", seconds=0.3)
        assert time.monotonic() - start < 2


def test_slow_name_resolution_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def resolve(*_: object, **__: object) -> None:
        released.wait(5)
        raise OSError("no such name")

    monkeypatch.setattr("urllib.request.urlopen", resolve)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"no answer within 0.2 s \(timed out\)"):
        probe("https://example.org/", seconds=0.2)
    assert time.monotonic() - start < 2
    released.set()


def test_error_names_both_checksums_and_keeps_the_file(mirror: Path) -> None:
    verify(mirror, md5(mirror))
    with pytest.raises(RuntimeError, match=rf"mirror.bin: MD5 {md5(mirror)}, expected abc.*remove it"):
        verify(mirror, "abc")
    assert mirror.exists()
