"""How does something that is known only at the end come into TensorBoard, without torch and only once?"""

import struct
import time
from collections.abc import Iterable
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.image.metadata import create_summary_metadata as image_metadata
from tensorboard.plugins.scalar.metadata import create_summary_metadata as scalar_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from prunelab.core.files import written_whole


def replace(folder: Path, kind: str, values: Iterable[Summary.Value], step: int) -> Path:
    """An event file of `folder` with `values`, in place of an earlier one of the same `kind`. Raises OSError.

    The name is new each time, as a TensorBoard that is running looks at no file twice; what it has of an earlier one
    gives way to equal tags and steps.
    """
    before, now = list(folder.glob(f"events.out.tfevents.*.{kind}")), time.time()
    path = folder / f"events.out.tfevents.{now:017.6f}.{kind}"
    with written_whole(path) as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for value in values:
            writer.write(Event(wall_time=now, step=step, summary=Summary(value=[value])).SerializeToString())
    for old in before:
        old.unlink(missing_ok=True)
    return path


def scalar(tag: str, value: float) -> Summary.Value:
    return Summary.Value(
        tag=tag, tensor=make_tensor_proto(float(value), dtype="float32"), metadata=scalar_metadata("", "")
    )


def image(tag: str, png: bytes) -> Summary.Value:
    width, height = struct.unpack(">II", png[16:24])  # of the header, which every PNG begins with
    tensor = make_tensor_proto([str(width).encode(), str(height).encode(), png])
    return Summary.Value(tag=tag, tensor=tensor, metadata=image_metadata("", ""))


def plugin(tag: str, metadata: SummaryMetadata, content: bytes = b"") -> Summary.Value:
    """What a plugin reads from `metadata`, or from `content`."""
    return Summary.Value(tag=tag, tensor=make_tensor_proto(content), metadata=metadata)
