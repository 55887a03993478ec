"""Atomic downloads with timeouts."""

from __future__ import annotations

import hashlib
import http.client
import logging
import queue
import threading
import time
import urllib.request
from pathlib import Path
from typing import IO

from prunelab.core.files.atomic import atomic_write
from prunelab.data.sources.cache import require_writable

log = logging.getLogger(__name__)
FAILURES = (OSError, ValueError, http.client.HTTPException)  # URLError is an OSError
STALL_TIMEOUT = 30.0  # seconds without a byte before a download is aborted
LOG_INTERVAL = 5.0  # seconds between progress messages


def probe(url: str, seconds: float = 5.0) -> None:
    """Raise RuntimeError unless `url` answers within `seconds`."""
    answer: queue.Queue[Exception | None] = queue.Queue()

    def request() -> None:
        try:
            urllib.request.urlopen(url, timeout=seconds).close()
            answer.put(None)
        except FAILURES as error:
            answer.put(error)

    # In a thread, because name resolution ignores the timeout: half a minute without a resolver.
    threading.Thread(target=request, daemon=True).start()
    try:
        failure = answer.get(timeout=seconds)
    except queue.Empty:
        failure = TimeoutError("timed out")
    if failure is not None:
        raise RuntimeError(f"{url}: no answer within {seconds:g} s ({failure})") from failure


def require(url: str, path: Path, md5: str, remedies: str) -> None:
    """Raise RuntimeError unless the file at `path` is intact, or `url` answers."""
    if path.exists():
        verify(path, md5)
        return
    require_writable(path.parent)
    try:
        probe(url)
    except RuntimeError as error:
        raise RuntimeError(f"{error}, and there is no {path}; {remedies}") from error


def refuse_file(root: str | None) -> None:
    """Raise NotADirectoryError if `root` is a file."""
    if root and (path := Path(root).expanduser()).is_file():
        raise NotADirectoryError(f"data.root={root}: a file; give the folder that it lies in, data.root={path.parent}")


def fetch(url: str, path: Path, md5: str) -> None:
    """Download to `path`, which appears only when complete; raises RuntimeError and leaves nothing otherwise."""
    log.info("downloading %s to %s", url, path)
    try:
        with atomic_write(path) as file:
            actual = stream(url, file)
            if actual != md5:
                raise RuntimeError(f"{url}: MD5 {actual}, expected {md5}; the download was removed")
    except FAILURES as error:
        raise RuntimeError(f"{url}: the download failed ({error}); run the command again") from error


def stream(url: str, file: IO[bytes]) -> str:
    """Download into `file`; returns the MD5 of what was written."""
    digest, last, size = hashlib.md5(usedforsecurity=False), time.monotonic(), 0
    with urllib.request.urlopen(url, timeout=STALL_TIMEOUT) as response:
        while block := response.read(1 << 20):
            digest.update(block)
            size += file.write(block)
            if time.monotonic() - last > LOG_INTERVAL:
                last = time.monotonic()
                log.info("%.0f MB downloaded", size / 1e6)
    return digest.hexdigest()


def verify(path: Path, md5: str) -> None:
    """Raise RuntimeError unless the file has this MD5. It is the user's file, so it is never removed."""
    with open(path, "rb") as file:
        actual = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if actual != md5:
        raise RuntimeError(
            f"{path}: MD5 {actual}, expected {md5}: truncated or a different file; remove it to download it again, or "
            f"if it is one of yours give data.md5={actual}"
        )
