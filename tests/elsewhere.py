"""Another process that holds a lock while it trains what several jobs share."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prunelab.store.lock import held


@contextmanager
def trained_elsewhere(path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Within this block the file is absent and locked, until a job waits for it; then it is there."""
    caplog.set_level("INFO")
    path.unlink()
    begun, done = threading.Event(), threading.Event()

    def train() -> None:
        with held(path.with_suffix(".lock"), "elsewhere"):
            begun.set()
            while "shared with elsewhere" not in caplog.text and not done.wait(0.1):
                pass
            path.write_bytes(content)

    thread = threading.Thread(target=train)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()
