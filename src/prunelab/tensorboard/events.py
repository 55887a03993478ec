"""Event files that replace an earlier one, for what is known only at the end of a job or a study.

`SummaryWriter` does neither that nor PNG files as they are, and imports torch, which takes seconds; summaries come from
TensorBoard's own functions where one exists that needs neither torch nor TensorFlow.
"""

import os
import struct
import time
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.hparams.api_pb2 import (
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    STATUS_SUCCESS,
    Experiment,
    HParamInfo,
    MetricInfo,
    MetricName,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.image.metadata import create_summary_metadata as image_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from prunelab.core.files.atomic import atomic_write


def replace(folder: Path, kind: str, summaries: Iterable[Summary], step: int) -> None:
    """Writes an event file with `summaries` to `folder`, in place of an earlier one of the same `kind`. Raises OSError.

    Its name is always new, as a running TensorBoard reads no file twice, and sorts after all earlier ones even if the
    clock was set back. Of processes that do this at the same time, the one that began last prevails.
    """
    begin, end = "events.out.tfevents.", f".{kind}"
    stamps = [float(path.name.removeprefix(begin).removesuffix(end)) for path in folder.glob(f"{begin}*{end}")]
    now = max([time.time(), *(stamp + 1e-5 for stamp in stamps)])
    with atomic_write(folder / f"{begin}{now:017.6f}{end}") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for summary in summaries:
            writer.write(Event(wall_time=now, step=step, summary=summary).SerializeToString())
    for earlier in sorted(folder.glob(f"{begin}*{end}"))[:-1]:
        _retire(earlier)


def _retire(path: Path) -> None:
    """Empties the file, and removes it the next time.

    TensorBoard's reader in Python (`--load_fast false`) may be reading it, and gets stuck at a file that is gone. It
    keeps showing what it has read, behind what is new; TensorBoard's default reader drops it.
    """
    with suppress(FileNotFoundError):  # another process was faster
        if path.stat().st_size:
            os.truncate(path, 0)
        else:
            path.unlink()


def image(tag: str, png: bytes) -> Summary:
    width, height = struct.unpack(">II", png[16:24])  # of the header, which every PNG begins with
    tensor = make_tensor_proto([str(width).encode(), str(height).encode(), png])
    return Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=image_metadata("", ""))])


def plugin(tag: str, metadata: SummaryMetadata, content: bytes = b"") -> Summary:
    """For a plugin that reads `metadata`, or `content`."""
    return Summary(value=[Summary.Value(tag=tag, tensor=make_tensor_proto(content), metadata=metadata)])


def session(
    columns: Mapping[str, type],
    first: Container[str],
    values: Mapping[str, str | float],
    metrics: Mapping[str, float],
    seconds: float,
) -> list[Summary]:
    """A finished job of that many seconds, for the HParams page, and its metrics as scalars `trained/<name>`.

    All jobs have the same `columns`: TensorBoard takes those of whichever it reads first. Built here, as
    `hparams_config_pb` cannot set `differs`, which puts the `first` ones before the others, and no function ends one.
    """
    types = {str: DATA_TYPE_STRING, float: DATA_TYPE_FLOAT64}
    experiment = Experiment(
        hparam_infos=[HParamInfo(name=name, type=types[kind], differs=name in first) for name, kind in columns.items()],
        metric_infos=[MetricInfo(name=MetricName(tag=f"trained/{name}"), display_name=name) for name in metrics],
    )
    now = time.time()
    end = SessionEndInfo(status=STATUS_SUCCESS, end_time_secs=now)
    return [
        plugin(hparams.EXPERIMENT_TAG, hparams.create_summary_metadata(HParamsPluginData(experiment=experiment))),
        hparams_pb(values, trial_id="", start_time_secs=now - seconds),
        plugin(hparams.SESSION_END_INFO_TAG, hparams.create_summary_metadata(HParamsPluginData(session_end_info=end))),
        *(scalar_pb(f"trained/{name}", value) for name, value in metrics.items()),
    ]
