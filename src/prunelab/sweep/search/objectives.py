"""The objectives of a search: the last epoch's validation accuracy and the pruned network's costs; never test data."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from hydra.core.utils import JobReturn

from prunelab.store.result import Result, read

Direction = Literal["maximize", "minimize"]
DIRECTIONS: dict[str, Direction] = {
    "accuracy": "maximize",
    "macs": "minimize",
    "nonzero": "minimize",
    "bops": "minimize",
}


def directions(names: Sequence[str]) -> list[Direction]:
    """Raises ValueError for an unknown or repeated objective, and for none."""
    for name in names:
        if name not in DIRECTIONS:
            raise ValueError(f"hydra.sweeper.objectives: {name} is not one of {', '.join(DIRECTIONS)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"hydra.sweeper.objectives={list(names)}: expected different ones, at least one")
    return [DIRECTIONS[name] for name in names]


def outcome(job: JobReturn, names: Sequence[str]) -> list[float]:
    """The values of objectives `names`: accuracy is a fraction, costs are of one image.

    Raises what the job raised; RuntimeError when it failed in another process, OSError when it left no result.json.
    """
    if math.isnan(job.return_value):
        raise RuntimeError("the job failed: see its train.log")
    result = read(_folder(job))
    return [_value(result, name) for name in names]


def _folder(job: JobReturn) -> Path:
    """Launchers of other processes set `working_dir` to it; in this process that is where the command began."""
    folder = Path(job.working_dir or ".")
    if (folder / "result.json").exists() or job.hydra_cfg is None:
        return folder
    return Path(job.hydra_cfg.hydra.runtime.output_dir)


def _value(result: Result, name: str) -> float:
    value = result.history[-1].val_acc if name == "accuracy" else getattr(result.pruned, name)
    if value is None:
        raise LookupError(f"{name}: not in result.json")
    return float(value)
