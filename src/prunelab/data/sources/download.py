"""How does a file come from the network, whole or not at all, without waiting for ever?"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import queue
import threading
import time
import urllib.request
import uuid
from pathlib import Path

log = logging.getLogger(__name__)
FAILURES = (OSError, ValueError, http.client.HTTPException)  # URLError is an OSError
STALL = 30.0  # seconds without a byte until a download is given up
PATIENCE = 5.0  # seconds between progress lines


def probe(url: str, seconds: float = 5.0) -> None:
    """Raise RuntimeError unless `url` answers within `seconds`."""
    answer: queue.Queue[Exception | None] = queue.Queue()

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=seconds).close()
            answer.put(None)
        except FAILURES as error:
            answer.put(error)

    # In a thread, because looking the name up heeds no timeout: half a minute where the resolver is away.
    threading.Thread(target=ask, daemon=True).start()
    try:
        failure = answer.get(timeout=seconds)
    except queue.Empty:
        failure = TimeoutError("timed out")
    if failure is not None:
        raise RuntimeError(f"data.url={url}: no answer within {seconds:g} s ({failure})") from failure


def fetch(url: str, path: Path, md5: str) -> None:
    """Download to `path`, which appears only when whole; raises RuntimeError and leaves nothing otherwise."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    log.info("downloading %s to %s", url, path)
    try:
        found = stream(url, part)
        if found != md5:
            raise RuntimeError(f"data.url={url}: MD5 {found}, expected {md5}; the download was removed")
        os.replace(part, path)
    except FAILURES as error:
        raise RuntimeError(f"data.url={url}: the download failed ({error}); run the command again") from error
    finally:
        part.unlink(missing_ok=True)


def stream(url: str, path: Path) -> str:
    """The MD5 of what was written to `path`."""
    digest, last, size = hashlib.md5(usedforsecurity=False), time.monotonic(), 0
    with urllib.request.urlopen(url, timeout=STALL) as response, open(path, "wb") as file:
        while block := response.read(1 << 20):
            digest.update(block)
            size += file.write(block)
            if time.monotonic() - last > PATIENCE:
                last = time.monotonic()
                log.info("%.0f MB so far", size / 1e6)
    return digest.hexdigest()


def verify(path: Path, md5: str) -> None:
    """Raise RuntimeError unless the file has this MD5. The file is the user's: it is never removed."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise RuntimeError(
            f"{path}: MD5 {found}, expected {md5}: truncated, or another file; remove it to download it again"
        )
