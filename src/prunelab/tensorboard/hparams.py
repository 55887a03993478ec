"""What does a finished job say on TensorBoard's page HParams?"""

import logging
import time
from pathlib import Path
from typing import Any

from google.protobuf.struct_pb2 import Value
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import (
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    STATUS_SUCCESS,
    Experiment,
    HParamInfo,
    MetricInfo,
    MetricName,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from prunelab.store.failure import one_line
from prunelab.store.naming import changes_result
from prunelab.tensorboard import events

log = logging.getLogger(__name__)
KIND = "result"
COLUMNS = {"method": str, "rate": float, "seed": float, "model": str, "data": str, "epochs": float, "lr": float}
COLUMNS |= {"batch_size": float, "more": str}  # the overrides that no other column tells
FIRST = ("method", "rate", "seed", "model", "lr")  # TensorBoard shows five at once, these before the others
ELSEWHERE = {"prune", "rate", "seed", "model", "data", "epochs", "optim.optimizer.lr", "optim.batch_size", "trainer"}


def write(folder: Path, result: dict[str, Any]) -> None:
    """One entry for the job of that folder, however often it is written. Raises OSError."""
    final = [events.scalar(f"trained/{name}", value) for name, value in metrics(result).items()]
    events.replace(folder, KIND, [*_session(result), *final], step=result["history"][-1]["epoch"])


def columns(result: dict[str, Any]) -> dict[str, str | float]:
    """By what jobs are told apart; without those that this one does not have."""
    values, labels = result["values"], result["labels"]
    found = {
        **{key: result[key] for key in ("method", "rate", "seed")},
        **{key: labels[key] for key in ("model", "data")},
        "epochs": result["config"]["epochs"],
        "lr": values.get("optim.optimizer.lr"),
        "batch_size": values.get("optim.batch_size"),
        "more": " ".join(filter(_is_more, result["overrides"])),
    }
    return {key: COLUMNS[key](value) for key, value in found.items() if value is not None}


def _is_more(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0]
    return key not in ELSEWHERE and changes_result(key)


def metrics(result: dict[str, Any]) -> dict[str, float]:
    """What the job came to; TensorBoard writes five digits, so large numbers have units."""
    pruned = result["cost"]["pruned"]
    return {
        "test accuracy": result["accuracy"],
        "sparsity attained": result["sparsity"]["attained"],
        "MACs left (millions)": pruned["macs"] / 1e6,
        "parameters left (millions)": pruned["nonzero"] / 1e6,
        "BOPs left (billions)": pruned["bops"] / 1e9,
        "seconds": result["seconds"],
    }


def _session(result: dict[str, Any]) -> list[Summary.Value]:
    """The same columns with every job: TensorBoard takes those of whichever it meets first."""
    types = {str: DATA_TYPE_STRING, float: DATA_TYPE_FLOAT64}
    experiment = Experiment(
        hparam_infos=[HParamInfo(name=name, type=types[kind], differs=name in FIRST) for name, kind in COLUMNS.items()],
        metric_infos=[
            MetricInfo(name=MetricName(tag=f"trained/{name}"), display_name=name) for name in metrics(result)
        ],
    )
    end = time.time()
    start = SessionStartInfo(start_time_secs=end - result["seconds"])
    for name, value in columns(result).items():
        start.hparams[name].CopyFrom(Value(string_value=value) if isinstance(value, str) else Value(number_value=value))
    data = {
        metadata.EXPERIMENT_TAG: HParamsPluginData(experiment=experiment),
        metadata.SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start),
        metadata.SESSION_END_INFO_TAG: HParamsPluginData(
            session_end_info=SessionEndInfo(status=STATUS_SUCCESS, end_time_secs=end)
        ),
    }
    return [events.plugin(tag, metadata.create_summary_metadata(of)) for tag, of in data.items()]


def logs(config: dict[str, Any]) -> bool:
    """Whether a job with this configuration writes event files."""
    return str((config.get("logger") or {}).get("_target_")).endswith(("EpochLogger", "TensorBoardLogger"))


def write_event(folder: Path, result: dict[str, Any]) -> None:
    """The entry of a job that logs there; a warning where it cannot be written, as the result is whole without it."""
    if not logs(result["config"]):
        return
    try:
        write(folder, result)
    except Exception as error:  # whatever goes wrong in another program's files
        log.warning("%s: not in TensorBoard: %s", folder, one_line(error))
