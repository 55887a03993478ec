"""The result of a finished job: the content of result.json, the contract between running and reporting."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

from prunelab.core.text.printable import printable
from prunelab.store.job import Job, fraction, number, versions_from_json
from prunelab.store.json_file import read_json

BATCH = 128  # batch size at which reports compare latency
# The keys of result.json; any other holds the result of an analysis.
KEYS = {f.name for f in fields(Job)} | {
    "device", "data", "sparsity", "cost", "peak_memory", "surgery", "budget", "rounds", "history", "accuracy",
    "seconds", "trained_in", "shared_epochs", "begun_with",
}  # fmt: skip


class Quartiles(NamedTuple):
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Cost:
    """Cost of one forward pass of one image. For a pruned network, work on a zero weight is not counted."""

    params: int
    nonzero: int
    macs: int
    bops: int
    memory_bytes: int | None = None  # parameters and buffers
    file_bytes: int | None = None
    latency: Mapping[int, Quartiles] = field(default_factory=dict)  # seconds, by batch size
    left_out: tuple[str, ...] = ()  # what the network computes and is in neither macs nor bops, in words

    def to_json(self) -> dict[str, Any]:
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "left_out" or self.left_out}
        return plain | {"latency": {str(batch): times._asdict() for batch, times in self.latency.items()}}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        params, nonzero, macs, bops = (int(number(name, raw[name])) for name in ("params", "nonzero", "macs", "bops"))
        memory, file = (_measured(name, raw) for name in ("memory_bytes", "file_bytes"))
        times = {
            int(n): Quartiles(*(number(name, t[name]) for name in Quartiles._fields))
            for n, t in raw.get("latency", {}).items()
        }
        return cls(params, nonzero, macs, bops, memory, file, times, tuple(map(printable, raw.get("left_out", ()))))


class Layer(NamedTuple):
    """Prunable and removed units, and weights and the zeros among them; removed ones are zeros."""

    units: int
    removed: int
    weights: int
    zeros: int


@dataclass(frozen=True)
class Sparsity:
    """Counted on the tested network. Fractions are in [0, 1]."""

    attained: float  # removed units / prunable units
    units: int
    removed: int
    zero_weights: float  # zeros among the weights of all prunable layers
    collapsed: tuple[str, ...]  # layers of which one unit is left
    layers: Mapping[str, Layer]
    unprunable: Mapping[str, int] = field(default_factory=dict)  # weights that are in no layer of a prunable kind

    def to_json(self) -> dict[str, Any]:
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "unprunable" or self.unprunable}
        layers = {name: layer._asdict() for name, layer in self.layers.items()}
        return plain | {"collapsed": list(self.collapsed), "layers": layers}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            attained=fraction("sparsity.attained", raw["attained"]),
            units=int(raw["units"]),
            removed=int(raw["removed"]),
            zero_weights=fraction("sparsity.zero_weights", raw["zero_weights"]),
            collapsed=tuple(map(printable, raw["collapsed"])),
            layers={
                printable(name): Layer(**{key: int(n) for key, n in layer.items()})
                for name, layer in raw["layers"].items()
            },
            unprunable={printable(name): int(n) for name, n in raw.get("unprunable", {}).items()},
        )


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of the history; None where nothing was measured. Accuracies and sparsities are fractions."""

    epoch: int  # from 1; 0 for a network that was evaluated and not trained
    step: int
    train_loss: float | None = None
    train_acc: float | None = None
    val_loss: float | None = None
    val_acc: float | None = None
    test_loss: float | None = None
    test_acc: float | None = None
    sparsity: float | None = None
    lr: float | None = None
    seconds: float | None = None  # without compilation
    cpu_seconds: float | None = None  # of all threads of all ranks that ended the epoch
    compile_seconds: float | None = None  # of the process that ended the epoch
    layers: Mapping[str, float] | None = None  # fraction of units removed, by layer

    def to_json(self) -> dict[str, Any]:
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        if raw.get("test_acc") is not None:
            fraction("test_acc", raw["test_acc"])
        measured: dict[str, Any] = {f.name: _measured(f.name, raw) for f in fields(cls) if f.name != "layers"}
        layers = raw.get("layers")
        if layers is not None:
            layers = {printable(name): number(name, removed) for name, removed in layers.items()}
        return cls(**measured | {"epoch": int(raw["epoch"]), "step": int(raw["step"]), "layers": layers})


@dataclass(frozen=True)
class Result:
    """One finished job, in `folder`. Accuracies and sparsities are fractions, times are seconds."""

    folder: Path
    job: Job
    device: str
    data: Mapping[str, Any]  # fingerprint, classes, mean and std of a channel, images of each split
    sparsity: Sparsity
    dense: Cost
    pruned: Cost
    history: tuple[Epoch, ...]
    accuracy: float  # on the test data, after the last epoch
    seconds: float
    timed: Mapping[str, Any] | None = None  # where and how latency was measured
    peak_memory: int | None = None  # bytes, of training: allocated on a GPU; by how much the process grew on a CPU
    surgery: Mapping[str, Any] | None = None  # the certificate, and the step at which the network became small
    budget: Mapping[str, Any] | None = None  # what the rate counts, and the fraction of it removed
    rounds: tuple[Mapping[str, Any], ...] = ()  # of methods that prune in rounds
    analyses: Mapping[str, dict[str, Any]] = field(default_factory=dict)  # of callbacks/analysis/, by name
    trained_in: str | None = None  # the folder of the job that trained the network, if that was another one
    shared_epochs: Mapping[str, Any] | None = None  # the first, of another job: {"in": its folder, "epochs": how many}
    begun_with: tuple[Mapping[str, Any], ...] = ()  # device, threads, versions of earlier steps, where they were others
    title: str = ""  # what reports call its method, where it is not the job's `variant`

    @property
    def method(self) -> str:
        return self.title or self.job.variant

    @property
    def scan(self) -> dict[str, Any] | None:
        """Result of callbacks/analysis/rate_scan.py, if the job has one."""
        return self.analyses.get("scan")

    @property
    def sensitivity(self) -> dict[str, Any] | None:
        """Result of callbacks/analysis/sensitivity.py, if the job has one."""
        return self.analyses.get("sensitivity")

    @property
    def score(self) -> float:
        """(accuracy + sparsity) / 2, the score of a challenge."""
        return (self.accuracy + self.sparsity.zero_weights) / 2

    @property
    def latency(self) -> float | None:
        """Median seconds for BATCH images, as a share of the unpruned network's, timed in turns."""
        after, before = (side.latency.get(BATCH) for side in (self.pruned, self.dense))
        return after.median / before.median if after and before else None

    @property
    def trained_epochs(self) -> int:
        """Of its whole training, rounds and retraining included; `job.epochs` are those of one."""
        return max((row.epoch for row in self.history), default=0)

    @cached_property
    def curve(self) -> tuple[tuple[int, float], ...]:
        """(epoch, test accuracy) of each tested epoch, in order."""
        return tuple((row.epoch, row.test_acc) for row in self.history if row.test_acc is not None)

    @cached_property
    def pruned_epochs(self) -> tuple[int, ...]:
        """The tested epochs at whose end more was pruned than at the end of the tested one before."""
        rows = [(row.epoch, row.sparsity or 0.0) for row in self.history if row.test_acc is not None and row.epoch]
        before = [0.0, *(sparsity for _, sparsity in rows)]
        return tuple(epoch for (epoch, now), last in zip(rows, before, strict=False) if now > last)

    @property
    def surgery_epoch(self) -> int | None:
        """The tested epoch in which, or before whose first step, the network became small; None where unknown."""
        step = self.surgery.get("step") if self.surgery else None
        rows = [row for row in self.history if row.test_acc is not None and row.epoch]
        if step is None or not rows:
            return None
        return next((row.epoch for row in rows if row.step > step), rows[-1].epoch)

    @cached_property
    def seconds_per_epoch(self) -> float | None:
        """Median."""
        seconds = [row.seconds for row in self.history if row.seconds is not None]
        return median(seconds) if seconds else None

    @property
    def timed_on(self) -> str:
        """Where and how latency was measured: "cpu, 2 threads, in float32, not compiled"; "" where it was not."""
        if not self.timed:
            return ""
        threads = f", {self.timed['threads']} thread{'s' * (self.timed['threads'] > 1)}"
        where = f"{self.timed['device']}{threads if self.timed['device'] == 'cpu' else ''}"
        return f"{where}, in {self.timed['precision']}"

    def to_json(self) -> dict[str, Any]:
        """The content of result.json."""
        measured = {
            "device": self.device,
            "data": self.data,
            "sparsity": self.sparsity.to_json(),
            "cost": {"dense": self.dense.to_json(), "pruned": self.pruned.to_json(), "timed": self.timed},
            "peak_memory": self.peak_memory,
            "surgery": self.surgery,
            "budget": self.budget,
            "rounds": list(self.rounds),
            "history": [row.to_json() for row in self.history],
            "accuracy": self.accuracy,
            "seconds": self.seconds,
        }
        others = {"trained_in": self.trained_in, "shared_epochs": self.shared_epochs, "begun_with": [*self.begun_with]}
        measured |= {name: value for name, value in others.items() if value}
        return self.job.to_json() | dict(self.analyses) | measured

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], folder: Path) -> Self:
        """Raises ValueError, TypeError or LookupError for what is damaged or newer than this version."""
        job = Job.from_json(raw)
        number("epochs", job.config["epochs"])
        return cls(
            folder=folder,
            job=job,
            device=printable(raw["device"]),
            data={**raw["data"], "fingerprint": str(raw["data"]["fingerprint"])},
            sparsity=Sparsity.from_json(raw["sparsity"]),
            dense=Cost.from_json(raw["cost"]["dense"]),
            pruned=Cost.from_json(raw["cost"]["pruned"]),
            history=tuple(map(Epoch.from_json, raw["history"])),
            accuracy=fraction("accuracy", raw["accuracy"]),
            seconds=number("seconds", raw["seconds"]),
            timed=_timed(raw["cost"].get("timed")),
            peak_memory=_measured("peak_memory", raw),
            surgery=raw.get("surgery"),
            budget=raw.get("budget"),
            rounds=tuple(raw.get("rounds", ())),
            trained_in=printable(raw["trained_in"]) if raw.get("trained_in") else None,
            shared_epochs=_shared_epochs(raw.get("shared_epochs")),
            begun_with=tuple(versions_from_json(used) for used in raw.get("begun_with", ())),
            analyses={name: raw[name] for name in raw.keys() - KEYS},
        )


def _shared_epochs(raw: Any) -> Mapping[str, Any] | None:
    return {"in": printable(raw["in"]), "epochs": int(number("epochs", raw["epochs"]))} if raw else None


def _measured(name: str, raw: Mapping[str, Any]) -> Any:
    """The number of that name; None where it was not measured."""
    return None if raw.get(name) is None else number(name, raw[name])


def _timed(raw: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not raw:
        return None
    device, precision = printable(raw["device"]), printable(raw["precision"])
    return {**raw, "device": device, "threads": number("threads", raw["threads"]), "precision": precision}


def read(folder: Path) -> Result:
    """The result of one job's folder. Raises OSError if it is absent, and whatever a damaged file provokes."""
    return Result.from_json(read_json(folder / "result.json"), folder)


def read_without_layers(folder: Path) -> Result:
    """Like `read`, without the history of each layer, most of the file: for reports on thousands of jobs."""
    raw = read_json(folder / "result.json")
    rows = [row | {"layers": {}} if "layers" in row else row for row in raw["history"]]
    return Result.from_json(raw | {"history": rows}, folder)
