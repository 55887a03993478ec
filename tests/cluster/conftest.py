"""How does a test come by a cluster? A Slurm of one node on the loopback, with GPUs that are none."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from single_node import SingleNode, missing


@pytest.fixture(scope="session")
def cluster() -> Iterator[SingleNode]:
    """Started once; skips, and says why, where Slurm is not installed or this user may not run it."""
    if why := missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:  # a socket's path is short
        node = SingleNode(Path(folder))
        try:
            try:
                node.start()
            except RuntimeError as error:
                if os.geteuid() == 0:
                    raise
                pytest.skip(f"this user may not run a Slurm: {error}")
            yield node
        finally:
            node.stop()


@pytest.fixture
def idle(cluster: SingleNode) -> Iterator[SingleNode]:
    """The cluster with nothing to do; what a test has left in its queue is cancelled."""
    yield cluster
    cluster.clear()
