"""Fixtures for tests on a single-node Slurm cluster on the loopback, with pretended GPUs."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from single_node import SingleNode, missing


@pytest.fixture(scope="session")
def cluster() -> Iterator[SingleNode]:
    """Started once; skips with a reason where Slurm is not installed or this user may not run it."""
    if why := missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(
        prefix="slurm-", ignore_cleanup_errors=True
    ) as folder:  # socket paths must be short
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
    """The cluster with an empty queue; jobs that a test leaves are cancelled."""
    yield cluster
    cluster.clear()
