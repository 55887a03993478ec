"""What does a job's result file say? One `result.json`, checked."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = 1  # the newest layout of result.json that this file can read


@dataclass(frozen=True)
class Cost:
    """Of one forward pass of one image. For a pruned net, work on a zero weight is not counted."""

    params: int
    nonzero: int
    macs: int
    bops: int


@dataclass(frozen=True)
class Result:
    """One finished job. Accuracies and sparsities are fractions, times are seconds."""

    folder: Path
    name: str
    method: str  # with its own settings where it was given any: "usp (scope=global)"
    rate: float
    seed: int
    overrides: tuple[str, ...]  # as the job was asked for
    comparable: str  # equal for jobs that differ in method, rate and seed only
    epochs: int
    config: dict[str, Any]
    labels: dict[str, str]  # the chosen files of conf/: {"model": "resnet8", ...}
    data: str  # fingerprint of the images
    device: str
    curve: tuple[tuple[int, float], ...]  # (epoch, test accuracy) where it was tested, in order
    accuracy: float  # on the test data, after the last epoch
    attained: float  # removed units / prunable units
    dense: Cost
    pruned: Cost
    seconds: float
    scan: dict[str, Any] | None = None  # of callbacks/scan.py
    sensitivity: dict[str, Any] | None = None  # of callbacks/sensitivity.py


def read(job: Path) -> Result:
    """The result of one job's folder; OSError, ValueError, TypeError or LookupError if it is not whole."""
    raw = json.loads((job / "result.json").read_text(encoding="utf-8"))
    if raw["schema"] > SCHEMA:
        raise ValueError(f"schema {raw['schema']} is newer than {SCHEMA}: update prunelab to read it")
    tested = [row for row in raw["history"] if row.get("test_acc") is not None]
    return Result(
        folder=job,
        name=str(raw["name"]),
        method=_variant(str(raw["method"]), raw["overrides"]),
        rate=_fraction("rate", raw["rate"]),
        seed=int(raw["seed"]),
        overrides=tuple(map(str, raw["overrides"])),
        comparable=str(raw["comparable"]),
        epochs=int(raw["config"]["epochs"]),
        config=dict(raw["config"]),
        labels=dict(raw["labels"]),
        data=str(raw["data"]["fingerprint"]),
        device=str(raw["device"]),
        curve=tuple((int(row["epoch"]), _fraction("test_acc", row["test_acc"])) for row in tested),
        accuracy=_fraction("accuracy", raw["accuracy"]),
        attained=_fraction("sparsity.attained", raw["sparsity"]["attained"]),
        dense=_cost(raw["cost"]["dense"]),
        pruned=_cost(raw["cost"]["pruned"]),
        seconds=float(raw["seconds"]),
        scan=raw.get("scan"),
        sensitivity=raw.get("sensitivity"),
    )


def _variant(method: str, overrides: list[str]) -> str:
    """Jobs with other settings of their method are other methods: their mean would describe neither."""
    inside = re.compile(r"[+~]*(prune[./](pruning\.pruner\.)?|(?=(retrain|rewind|rounds)=))")
    settings = sorted(inside.sub("", o, count=1) for o in overrides if inside.match(o))
    return f"{method} ({', '.join(settings)})" if settings else method


def _cost(raw: dict[str, Any]) -> Cost:
    return Cost(int(raw["params"]), int(raw["nonzero"]), int(raw["macs"]), int(raw["bops"]))


def _fraction(name: str, value: float) -> float:
    if not 0 <= value <= 1:  # also refuses nan
        raise ValueError(f"{name}={value}: expected a fraction in [0, 1]")
    return float(value)
