"""How does something that is known only at the end come into TensorBoard, without torch and only once?"""

import os
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.image.metadata import create_summary_metadata as image_metadata
from tensorboard.plugins.scalar.metadata import create_summary_metadata as scalar_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from prunelab.core.atomic import atomic_write


def replace(folder: Path, kind: str, values: Iterable[Summary.Value], step: int) -> None:
    """An event file of `folder` with `values`, in place of an earlier one of the same `kind`. Raises OSError.

    The name is new each time, as a TensorBoard that is running looks at no file twice, and comes behind all others,
    whatever the clock says. Of processes that do this at the same time the one that began last prevails.
    """
    begin, end = "events.out.tfevents.", f".{kind}"
    before = [path.name.removeprefix(begin).removesuffix(end) for path in folder.glob(f"{begin}*{end}")]
    now = max([time.time(), *(float(stamp) + 1e-5 for stamp in before)])
    with atomic_write(folder / f"{begin}{now:017.6f}{end}") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for value in values:
            writer.write(Event(wall_time=now, step=step, summary=Summary(value=[value])).SerializeToString())
    for earlier in sorted(folder.glob(f"{begin}*{end}"))[:-1]:
        _give_way(earlier)


def _give_way(path: Path) -> None:
    """Empties the file, and removes it the next time.

    TensorBoard's reader in Python (`--load_fast false`) may stand on it, and does not get past a file that is gone.
    What it has read it goes on showing, behind what is new; TensorBoard's usual reader drops it.
    """
    with suppress(FileNotFoundError):  # another process was faster
        if path.stat().st_size:
            os.truncate(path, 0)
        else:
            path.unlink()


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
