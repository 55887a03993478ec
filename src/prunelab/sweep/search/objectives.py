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
    """Raises ValueError for a name that is not an objective, for one that stands there twice, and for none at all."""
    for name in names:
        if name not in DIRECTIONS:
            raise ValueError(f"hydra.sweeper.objectives: {name} is none of {', '.join(DIRECTIONS)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"hydra.sweeper.objectives={list(names)}: expected different ones, at least one")
    return [DIRECTIONS[name] for name in names]


def outcome(job: JobReturn, names: Sequence[str]) -> list[float]:
    """The values of objectives `names`: accuracy is a fraction, costs are of one image.

    Raises what the job raised; RuntimeError when it failed in another process, OSError when it left no result.json.
    """
    if math.isnan(job.return_value):
        raise RuntimeError("it failed, its train.log says why")
    result = read(_folder(job))
    return [_value(result, name) for name in names]


def _folder(job: JobReturn) -> Path:
    """A launcher of other processes says so in `working_dir`; in this one that is where the command began."""
    folder = Path(job.working_dir or ".")
    if (folder / "result.json").exists() or job.hydra_cfg is None:
        return folder
    return Path(job.hydra_cfg.hydra.runtime.output_dir)


def _value(result: Result, name: str) -> float:
    value = result.history[-1].val_acc if name == "accuracy" else getattr(result.pruned, name)
    assert value is not None
    return float(value)
