"""Failure records: one line, and whether memory ran out."""

import pytest

from prunelab.store.failure import Failed, is_memory, one_line, record
from prunelab.store.signals import Interrupted


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("lr=-1:\n  expected more"), "ValueError: lr=-1: expected more"),
        (Failed("of another\nprocess"), "of another process"),
        (Interrupted("stopped"), "stopped"),
        ("Slurm job 7\nended", "Slurm job 7 ended"),
    ],
)
def test_a_reason_is_one_line_with_the_kind_of_error_unless_it_is_ours(error: BaseException | str, line: str) -> None:
    assert one_line(error) == record(error)["reason"] == line


def test_memory_that_ran_out_is_known_by_the_kind_or_the_words_of_the_error() -> None:
    kind = type("OutOfMemoryError", (RuntimeError,), {})
    for error in (
        MemoryError(),
        kind(),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA out of memory"),
    ):
        assert is_memory(error)
    for other in (ValueError("out of memory"), RuntimeError("shapes"), "out of memory"):
        assert not is_memory(other)
