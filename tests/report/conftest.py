"""A synthetic sweep: result files as jobs write them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from charting import sketch

from prunelab.report.figures import style

RATES = (0.0, 0.2, 0.4, 0.6, 0.8)
EPOCHS = 10
UNITS = 1000

Add = Callable[..., Path]


def accuracy(method: str, rate: float, seed: int, epoch: int) -> float:
    """A plausible test accuracy: rises and levels off over epochs, and falls with the rate."""
    loss = {"none": 0.0, "usp": 0.06, "sp": 0.35}.get(method, 0.15) * rate**3
    return round(0.80 - 0.45 * 0.62**epoch - loss + 0.004 * seed * (1 - rate), 6)


def cost(nonzero: int) -> dict[str, Any]:
    """Of a network of UNITS weights, each used 40 times, in float32; its time falls half as fast as its work."""
    latency = {str(n): {"median": n * (UNITS + nonzero) * 1e-6, "low": 0.0, "high": 1.0} for n in (1, 128)}
    return {
        "params": UNITS,
        "nonzero": nonzero,
        "macs": 40 * nonzero,
        "bops": 40 * 1024 * nonzero,
        "memory_bytes": 4 * UNITS,
        "file_bytes": 4 * nonzero + 100,
        "latency": latency,
    }


def layers(rate: float) -> dict[str, dict[str, int]]:
    """A first layer of a tenth of the units, and another."""
    return {
        name: {"units": n, "removed": round(n * rate), "weights": n, "zeros": round(n * rate)}
        for name, n in (("conv.weight", UNITS // 10), ("fc.weight", UNITS - UNITS // 10))
    }


def result(method: str = "usp", rate: float = 0.2, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """The content of one result.json; `changes` replaces top-level entries; `trained` epochs, of a job's own else."""
    kept = round(UNITS * (1 - rate))
    epochs = changes.get("trained", changes.get("config", {}).get("epochs", EPOCHS))
    curve = [(epoch, accuracy(method, rate, seed, epoch)) for epoch in range(1, epochs + 1)]
    model, optim = {"_target_": "a", "width": 8}, {"lr": 0.1}
    return {
        "schema": 1,
        "identity": f"{method}-{rate}-{seed}",
        "comparable": "0123456789abcdef",
        "name": "demo",
        "method": method,
        "rate": rate,
        "seed": seed,
        "overrides": [f"prune={method}", f"rate={rate}", f"seed={seed}", "model=keras_cnn"],
        "config": {"epochs": EPOCHS, "rate": rate, "seed": seed, "model": model, "optim": optim},
        "labels": {"model": "keras_cnn", "data": "image_folder", "optim": "sgd"},
        "values": {},
        "asked": f"{method}-{rate}-{seed}",
        "versions": {},
        "device": "cpu",
        "data": {"fingerprint": "f1", "train": 45000, "classes": 10},
        "history": [
            {
                "epoch": e,
                "step": 352 * e,
                "test_acc": a,
                "seconds": 3.0,
                "layers": {"conv": rate * e / EPOCHS, "fc": rate},
            }
            for e, a in curve
        ],
        "accuracy": curve[-1][1] if curve else 0.1,
        "sparsity": {
            "attained": rate,
            "units": UNITS,
            "removed": UNITS - kept,
            "zero_weights": (UNITS - kept) / UNITS,
            "collapsed": [],
            "layers": layers(rate),
        },
        "cost": {
            "dense": cost(UNITS),
            "pruned": cost(kept),
            "timed": {"device": "cpu", "threads": 2, "precision": "float32, not compiled"},
        },
        "peak_memory": 10**9,
        "rounds": [],
        "seconds": 31.25,
    } | {key: value for key, value in changes.items() if key != "trained"}


@pytest.fixture
def add(tmp_path: Path) -> Add:
    """Writes a result where its job would, in tmp_path/demo; returns the job's folder."""

    def file(method: str = "usp", rate: float = 0.2, seed: int = 0, folder: str = "", **changes: Any) -> Path:
        job = tmp_path / "demo" / (folder or f"prune={method},rate={rate:g},seed={seed}")
        job.mkdir(parents=True)
        (job / "result.json").write_text(json.dumps(result(method, rate, seed, **changes)))
        return job

    return file


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are specified and written as files, but not drawn."""
    monkeypatch.setattr(style, "pictures", sketch)


@pytest.fixture(params=[1, 3], ids=["1 seed", "3 seeds"])
def sweep(request: pytest.FixtureRequest, add: Add) -> Path:
    """Two methods at five rates, with one seed and with three."""
    jobs = [add(m, rate, seed) for m in ("usp", "sp") for rate in RATES for seed in range(request.param)]
    return jobs[0].parent
