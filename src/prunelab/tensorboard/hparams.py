"""A finished job's entry on TensorBoard's HParams page."""

import logging
from pathlib import Path
from typing import Any

from prunelab.store.failure import one_line
from prunelab.store.naming import changes_result

log = logging.getLogger(__name__)
KIND = "result"
COLUMNS = {"method": str, "rate": float, "seed": float, "model": str, "data": str, "epochs": float, "lr": float}
COLUMNS |= {"batch_size": float, "more": str}  # overrides without a column of their own
FIRST = ("method", "rate", "seed", "model", "lr")  # TensorBoard shows five at once, these first
IN_COLUMNS = {"prune", "rate", "seed", "model", "data", "epochs", "optim.optimizer.lr", "optim.batch_size", "trainer"}


def write(folder: Path, result: dict[str, Any]) -> None:
    """One entry for the job in `folder`, however often it is written. Raises OSError."""
    from prunelab.tensorboard import events  # TensorBoard takes half a second, and most jobs do not log there

    session = events.session(COLUMNS, FIRST, columns(result), metrics(result), result["seconds"])
    events.replace(folder, KIND, session, step=result["history"][-1]["epoch"])


def columns(result: dict[str, Any]) -> dict[str, str | float]:
    """What tells jobs apart; without the columns that this job has no value for."""
    values, labels = result["values"], result["labels"]
    row = {
        **{key: result[key] for key in ("method", "rate", "seed")},
        **{key: labels[key] for key in ("model", "data")},
        "epochs": result["config"]["epochs"],
        "lr": values.get("optim.optimizer.lr"),
        "batch_size": values.get("optim.batch_size"),
        "more": " ".join(filter(_is_more, result["overrides"])),
    }
    return {key: COLUMNS[key](value) for key, value in row.items() if value is not None}


def _is_more(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0]
    return key not in IN_COLUMNS and changes_result(key)


def metrics(result: dict[str, Any]) -> dict[str, float]:
    """The results of the job; TensorBoard shows five digits, so large numbers have units."""
    pruned = result["cost"]["pruned"]
    return {
        "test accuracy": result["accuracy"],
        "sparsity attained": result["sparsity"]["attained"],
        "MACs left (millions)": pruned["macs"] / 1e6,
        "parameters left (millions)": pruned["nonzero"] / 1e6,
        "BOPs left (billions)": pruned["bops"] / 1e9,
        "seconds": result["seconds"],
    }


def logs(config: dict[str, Any]) -> bool:
    """Whether a job with this configuration writes event files."""
    return str((config.get("logger") or {}).get("_target_")).endswith(("EpochLogger", "TensorBoardLogger"))


def write_event(folder: Path, result: dict[str, Any]) -> None:
    """Writes the entry of a job that logs to TensorBoard. A failure is a warning: the result is complete without it."""
    if not logs(result["config"]):
        return
    try:
        write(folder, result)
    except Exception as error:  # another program's file format must not fail the job
        log.warning("%s: not in TensorBoard: %s", folder, one_line(error))
