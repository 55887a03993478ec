"""TensorBoard, even a running one, shows the event file that replaced an earlier one."""

from collections.abc import Iterator
from pathlib import Path

import events as shown
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from prunelab.tensorboard import events


def values(folder: Path) -> dict[str, list[float]]:
    return {tag: [float(v) for v in values] for tag, values in shown.tensors(folder, "scalars").items()}


def test_a_running_reader_in_python_gets_every_replacement(tmp_path: Path) -> None:
    reader, seen = EventAccumulator(str(tmp_path)), []
    for tag in ("a", "b", "c", "d"):
        events.replace(tmp_path, "study", [scalar_pb(tag, 1.0)], step=0)
        reader.Reload()
        seen.append(sorted(reader.Tags()["tensors"]))
    assert seen == [["a"], ["a", "b"], ["a", "b", "c"], ["a", "b", "c", "d"]]


def test_a_new_reader_gets_only_the_last_and_one_empty_file_is_left(tmp_path: Path) -> None:
    events.replace(tmp_path, "other", [scalar_pb("other", 0.0)], step=0)
    for value in range(4):
        events.replace(tmp_path, "study", [scalar_pb("a", value)], step=0)
        assert values(tmp_path) == {"a": [value], "other": [0.0]}
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("*.study"))]
    assert (len(sizes), sizes[0]) == (2, 0)


def test_of_two_concurrent_replacements_one_is_shown(tmp_path: Path) -> None:
    def slow() -> Iterator[Summary]:
        yield scalar_pb("a", 1.0)
        events.replace(tmp_path, "study", [scalar_pb("a", 2.0)], step=0)  # begins later and ends first

    events.replace(tmp_path, "study", [scalar_pb("a", 0.0)], step=0)
    events.replace(tmp_path, "study", slow(), step=0)
    assert values(tmp_path) == {"a": [2.0]}


def test_the_last_is_shown_whatever_the_clock_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, clock in enumerate((2e9, 1e9, 1e9, 3e9)):
        monkeypatch.setattr("time.time", lambda clock=clock: clock)
        events.replace(tmp_path, "study", [scalar_pb("a", value)], step=0)
        assert values(tmp_path) == {"a": [value]}
