"""The jobs as compact JSON for the page: values that jobs share are written once."""

import os
import shlex
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from prunelab.report.groups import is_named
from prunelab.report.provenance import software
from prunelab.store.naming import short_names
from prunelab.store.result import BATCH, Cost, Result

DIGITS = 6  # significant, of a measured number
Measure = float | tuple[float | None, ...] | None
COSTS: dict[str, Callable[[Cost], Measure]] = {
    "params": lambda c: c.params,
    "nonzero": lambda c: c.nonzero,
    "macs": lambda c: c.macs,
    "bops": lambda c: c.bops,
    "memory": lambda c: c.memory_bytes,
    "file": lambda c: c.file_bytes,
    "latency1": lambda c: c.latency.get(1),
    "latency128": lambda c: c.latency.get(BATCH),
}


@dataclass(frozen=True)
class Numbered:
    """Numbers values in the order of their first use."""

    numbers: dict[Hashable, int] = field(default_factory=dict)

    def __call__(self, value: Hashable) -> int:
        return self.numbers.setdefault(value, len(self.numbers))


def compact(results: Sequence[Result]) -> dict[str, Any]:
    """For JSON. Rows refer to `texts` and `costs` by number; `quoted` holds the texts that a shell needs quoted."""
    texts, costs = Numbered(), Numbered()
    common, labels = short_names({r.folder: r.job.overrides for r in results})
    columns: dict[str, Callable[[Result], Any]] = {
        "job": lambda r: r.folder.name,
        "label": lambda r: labels[r.folder],
        "files": lambda r: texts("\n".join(_files(r.folder))),
        "method": lambda r: texts(r.method),
        "rate": lambda r: _number(r.job.rate),
        "seed": lambda r: r.job.seed,
        "accuracy": lambda r: _number(r.accuracy),
        "attained": lambda r: _number(r.sparsity.attained),
        "score": lambda r: _number(r.score if r.sparsity.layers else None),
        "seconds": lambda r: _number(r.seconds),
        "epochSeconds": lambda r: _number(r.seconds_per_epoch),
        "peak": lambda r: _number(r.peak_memory),
        "timed": lambda r: texts(r.timed_on),
        "device": lambda r: texts(r.device),
        "versions": lambda r: texts("; begun with ".join(software(r))),
        "dense": lambda r: costs(_cost(r.dense)),
        "pruned": lambda r: costs(_cost(r.pruned)),
        "arguments": lambda r: [texts(o) for o in r.job.arguments],
        "study": lambda r: (
            None if is_named(r.job.overrides) else texts(f"name={r.job.name}")
        ),  # where no override gives it
    }
    rows = [[cell(result) for cell in columns.values()] for result in results]
    return {
        "fields": list(columns),
        "measures": list(COSTS),
        "shared": " ".join(common),
        "texts": list(texts.numbers),
        "quoted": {n: shlex.quote(str(text)) for text, n in texts.numbers.items() if shlex.quote(str(text)) != text},
        "costs": list(costs.numbers),
        "jobs": rows,
    }


def _files(job: Path) -> list[str]:
    """What a browser can open or save: no hidden files, no events of TensorBoard; a folder ends in a slash."""
    with os.scandir(job) as entries:
        found = [entry.name + "/" * entry.is_dir() for entry in entries]
    return sorted(name for name in found if name.isprintable() and not name.startswith((".", "events.out.")))


def _cost(cost: Cost) -> tuple[Measure, ...]:
    values = [measure(cost) for measure in COSTS.values()]
    return tuple(tuple(map(_number, value)) if isinstance(value, tuple) else _number(value) for value in values)


def _number(value: float | None) -> float | None:
    """None for infinities and NaN, which JSON lacks; counts stay integers."""
    if value is None or not isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.{DIGITS}g}")
