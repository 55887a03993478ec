"""What does a job's result file say? One `result.json`, checked."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

BATCH = 128  # whose latency reports compare
SCHEMA = 1  # the newest layout of result.json that this file can read


class Quartiles(NamedTuple):
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Cost:
    """Of one forward pass of one image. For a pruned net, work on a zero weight is not counted.

    What results of older versions do not have is None, or empty.
    """

    params: int
    nonzero: int
    macs: int
    bops: int
    memory_bytes: int | None = None  # parameters and buffers
    file_bytes: int | None = None
    latency: dict[int, Quartiles] = field(default_factory=dict)  # of seconds, by batch size


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
    versions: dict[str, Any] = field(default_factory=dict)
    seconds_per_epoch: float | None = None  # median
    peak_bytes: int | None = None  # of training: allocated on a GPU; by how much the process grew on a CPU
    timed: str = ""  # where latency was: "cpu, 2 threads"
    layers: dict[str, tuple[int, int]] = field(default_factory=dict)  # zeros and weights of each prunable layer
    layers_in_time: bool = False  # whether `over_time` finds any
    rounds: tuple[dict[str, Any], ...] = ()  # of methods that prune in rounds, as the job wrote them
    scan: dict[str, Any] | None = None  # of callbacks/analysis/rate_scan.py
    sensitivity: dict[str, Any] | None = None  # of callbacks/analysis/sensitivity.py

    @property
    def sparsity(self) -> float:
        """Zeros among the weights of all prunable layers; what was cut out counts as zeros."""
        weights = sum(n for _, n in self.layers.values())
        return sum(zeros for zeros, _ in self.layers.values()) / weights if weights else 0.0

    @property
    def score(self) -> float:
        """(accuracy + sparsity) / 2, of which a challenge made one number."""
        return (self.accuracy + self.sparsity) / 2

    @property
    def latency(self) -> float | None:
        """Median seconds for BATCH images, as a share of the parent's, which took turns with it."""
        after, before = (side.latency.get(BATCH) for side in (self.pruned, self.dense))
        return after.median / before.median if after and before else None


def over_time(job: Path) -> dict[str, list[tuple[int, float]]]:
    """(epoch, fraction of units removed) of each layer; read when it is drawn, for it is most of a result file."""
    rows = json.loads((job / "result.json").read_bytes())["history"]
    layers: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, removed in row.get("layers", {}).items():
            layers.setdefault(name, []).append((int(row["epoch"]), float(removed)))
    return layers


def read(job: Path) -> Result:
    """The result of one job's folder; OSError, ValueError, TypeError or LookupError if it is not whole."""
    raw = json.loads((job / "result.json").read_text(encoding="utf-8"))
    if raw["schema"] > SCHEMA:
        raise ValueError(f"schema {raw['schema']} is newer than {SCHEMA}: update prunelab to read it")
    seconds = [float(row["seconds"]) for row in raw["history"] if "seconds" in row]
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
        versions=dict(raw.get("versions", {})),
        seconds_per_epoch=median(seconds) if seconds else None,
        peak_bytes=raw.get("peak_memory"),
        timed=_timed(raw["cost"].get("timed")),
        layers={name: (int(of["zeros"]), int(of["weights"])) for name, of in raw["sparsity"].get("layers", {}).items()},
        layers_in_time=any("layers" in row for row in raw["history"]),
        rounds=tuple(raw.get("rounds", ())),
        scan=raw.get("scan"),
        sensitivity=raw.get("sensitivity"),
    )


def _variant(method: str, overrides: list[str]) -> str:
    """Jobs with other settings of their method are other methods: their mean would describe neither."""
    inside = re.compile(r"[+~]*(prune[./](pruning\.pruner\.)?|(?=(retrain|rewind|rounds)=))")
    settings = sorted(inside.sub("", o, count=1) for o in overrides if inside.match(o))
    return f"{method} ({', '.join(settings)})" if settings else method


def _cost(raw: dict[str, Any]) -> Cost:
    return Cost(
        params=int(raw["params"]),
        nonzero=int(raw["nonzero"]),
        macs=int(raw["macs"]),
        bops=int(raw["bops"]),
        memory_bytes=raw.get("memory_bytes"),
        file_bytes=raw.get("file_bytes"),
        latency={int(n): Quartiles(of["median"], of["low"], of["high"]) for n, of in raw.get("latency", {}).items()},
    )


def _timed(raw: dict[str, Any] | None) -> str:
    if not raw:
        return ""
    threads = f", {raw['threads']} thread{'s' * (raw['threads'] > 1)}" if raw["device"] == "cpu" else ""
    return f"{raw['device']}{threads}"


def _fraction(name: str, value: float) -> float:
    if not 0 <= value <= 1:  # also refuses nan
        raise ValueError(f"{name}={value}: expected a fraction in [0, 1]")
    return float(value)
