"""What is a job judged by? Its last epoch's validation accuracy and its pruned net's costs; never test data."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.core.utils import JobReturn

Direction = Literal["maximize", "minimize"]
DIRECTIONS: dict[str, Direction] = {
    "accuracy": "maximize",
    "macs": "minimize",
    "nonzero": "minimize",
    "bops": "minimize",
}


def directions(names: Sequence[str]) -> list[Direction]:
    """Raises ValueError for a name that is not an objective, twice the same, or none at all."""
    for name in names:
        if name not in DIRECTIONS:
            raise ValueError(f"hydra.sweeper.objectives: {name} is none of {', '.join(DIRECTIONS)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"hydra.sweeper.objectives={list(names)}: expected different ones, at least one")
    return [DIRECTIONS[name] for name in names]


def outcome(job: JobReturn, names: Sequence[str]) -> list[float]:
    """The values of objectives `names`: accuracy is a fraction, costs are of one image.

    Raises what the job raised; RuntimeError when it failed elsewhere, OSError when it left no result.json.
    """
    if math.isnan(job.return_value):
        raise RuntimeError("it failed, its train.log says why")
    result = json.loads((_folder(job) / "result.json").read_text(encoding="utf-8"))
    return [_value(result, name) for name in names]


def _folder(job: JobReturn) -> Path:
    """A launcher of other processes says so in `working_dir`; in this one that is where the command began."""
    there = Path(job.working_dir or ".")
    if (there / "result.json").exists() or job.hydra_cfg is None:
        return there
    return Path(job.hydra_cfg.hydra.runtime.output_dir)


def _value(result: dict[str, Any], name: str) -> float:
    return float(result["history"][-1]["val_acc"] if name == "accuracy" else result["cost"]["pruned"][name])
