"""Reads the event files of a folder."""

from pathlib import Path
from typing import Any

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as PluginAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util.tensor_util import make_ndarray

ALL = {"scalars": 0, "histograms": 0, "tensors": 0, "images": 0}  # all of them


def accumulated(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance=ALL)
    events.Reload()
    return events


def steps(folder: Path) -> dict[str, list[int]]:
    """Steps of each scalar and histogram that a job logs during training."""
    events = accumulated(folder)
    scalars = {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return scalars | {tag: [event.step for event in events.Histograms(tag)] for tag in events.Tags()["histograms"]}


def last_steps(folder: Path) -> dict[str, int]:
    """The last step of every tag."""
    events = PluginAccumulator(str(folder), size_guidance=ALL)
    events.Reload()
    return {tag: events.Tensors(tag)[-1].step for tag in events.Tags()["tensors"]}


def tensors(folder: Path, plugin: str) -> dict[str, list[Any]]:
    """The data of a plugin, by tag."""
    events = PluginAccumulator(str(folder), size_guidance=ALL)
    events.Reload()
    try:
        tags = events.PluginTagToContent(plugin)
    except KeyError:
        return {}
    return {tag: [make_ndarray(event.tensor_proto) for event in events.Tensors(tag)] for tag in tags}


def hyperparameters(folder: Path) -> dict[str, Any]:
    """The columns of a job on the HParams page."""
    events = PluginAccumulator(str(folder), size_guidance=ALL)
    events.Reload()
    content = events.PluginTagToContent(metadata.PLUGIN_NAME)[metadata.SESSION_START_INFO_TAG]
    start = metadata.parse_session_start_info_plugin_data(content)
    return {name: getattr(value, str(value.WhichOneof("kind"))) for name, value in start.hparams.items()}


def size(path: Path) -> tuple[int, int]:
    """Width and height of a picture."""
    with Image.open(path) as picture:
        return picture.size
