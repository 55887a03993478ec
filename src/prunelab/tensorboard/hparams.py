"""A finished job's entry on TensorBoard's HParams page."""

import logging

from prunelab.store.failure import one_line
from prunelab.store.identity import changes_result
from prunelab.store.job import Job
from prunelab.store.result import Result

log = logging.getLogger(__name__)
KIND = "result"
COLUMNS = {"method": str, "rate": float, "seed": float, "model": str, "data": str, "epochs": float, "lr": float}
COLUMNS |= {"batch_size": float, "more": str}  # overrides without a column of their own
FIRST = ("method", "rate", "seed", "model", "lr")  # TensorBoard shows five at once, these first
IN_COLUMNS = {"prune", "rate", "seed", "model", "data", "epochs", "optim.optimizer.lr", "optim.batch_size", "trainer"}


def write(result: Result) -> None:
    """One entry for the job in its folder, however often it is written. Raises OSError."""
    from prunelab.tensorboard import events  # TensorBoard takes half a second, and most jobs do not log there

    session = events.session(COLUMNS, FIRST, columns(result.job), metrics(result), result.seconds)
    events.replace(result.folder, KIND, session, step=result.history[-1].epoch)


def columns(job: Job) -> dict[str, str | float]:
    """What tells jobs apart; without the columns that this job has no value for."""
    row = {
        "method": job.method,
        "rate": job.rate,
        "seed": job.seed,
        "model": job.labels["model"],
        "data": job.labels["data"],
        "epochs": job.epochs,
        "lr": job.values.get("optim.optimizer.lr"),
        "batch_size": job.values.get("optim.batch_size"),
        "more": " ".join(filter(_is_more, job.overrides)),
    }
    return {key: COLUMNS[key](value) for key, value in row.items() if value is not None}


def _is_more(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0]
    return key not in IN_COLUMNS and changes_result(key)


def metrics(result: Result) -> dict[str, float]:
    """The results of the job; TensorBoard shows five digits, so large numbers have units."""
    return {
        "test accuracy": result.accuracy,
        "sparsity attained": result.sparsity.attained,
        "MACs left (millions)": result.pruned.macs / 1e6,
        "parameters left (millions)": result.pruned.nonzero / 1e6,
        "BOPs left (billions)": result.pruned.bops / 1e9,
        "seconds": result.seconds,
    }


def write_event(result: Result) -> None:
    """Writes the entry of a job that logs to TensorBoard. A failure is a warning: the result is complete without it."""
    if not result.job.logs_events:
        return
    try:
        write(result)
    except Exception as error:  # another program's file format must not fail the job
        log.warning("%s: not in TensorBoard: %s", result.folder, one_line(error))
