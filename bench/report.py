"""Time and memory of a report on very many jobs.

python bench/report.py --jobs 10000     # made-up results of 10 methods, 10 rates, 50 epochs and 20 layers
"""

import argparse
import json
import random
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from prunelab.report import summary

METHODS = ("none", "usp", "gmp", "sp", "rigl", "set", "snip", "grasp", "synflow", "lottery")
RATES = tuple(i / 10 for i in range(10))
EPOCHS, LAYERS, PARAMS = 50, 20, 1_000_000


def result(number: int, rng: random.Random) -> dict[str, object]:
    """One result.json, as large as that of a real job."""
    method, rate = METHODS[number % 10], RATES[number // 10 % 10]
    seed, best = number // 100, 0.9 - 0.2 * rate**3 + rng.gauss(0, 0.003)
    weights = PARAMS // LAYERS
    names = [f"layer{i // 6}.{i % 6}.conv" for i in range(LAYERS)]
    history = [
        {"epoch": e, "step": 352 * e, "test_acc": best * (1 - 0.7**e), "test_loss": 1 / e, "train_loss": 1 / e,
         "train_acc": best, "val_loss": 1 / e, "val_acc": best, "sparsity": rate, "lr": 0.1, "seconds": 3.0,
         "layers": {name: round(rate * e / EPOCHS, 6) for name in names}}
        for e in range(1, EPOCHS + 1)
    ]  # fmt: skip
    left = 1 - rate if method != "none" else 1.0

    def side(left: float) -> dict[str, object]:
        times = {str(n): {"median": n * 1e-4 * rng.gauss(1, 0.02), "low": 0.0, "high": 1.0} for n in (1, 128)}
        return {"params": PARAMS, "nonzero": int(left * PARAMS), "macs": int(left * 4e7), "bops": int(left * 4e10),
                "memory_bytes": 4 * PARAMS, "file_bytes": int(left * 4 * PARAMS), "latency": times}  # fmt: skip

    layers = {
        f"{n}.weight": {"units": weights, "removed": 0, "weights": weights, "zeros": int(weights * rate)} for n in names
    }
    return {
        "schema": 1, "identity": str(number), "comparable": "c", "name": "many", "method": method, "rate": rate,
        "seed": seed, "overrides": [f"prune={method}", f"rate={rate}", f"seed={seed}", "model=resnet20", "epochs=50"],
        "config": {"epochs": EPOCHS, "rate": rate, "seed": seed, "model": {"_target_": "m", "width": 16}},
        "labels": {"model": "resnet20", "data": "cifar10", "optim": "sgd"}, "versions": {"torch": "2.11"},
        "device": "cpu", "data": {"fingerprint": "f", "classes": 10}, "history": history,
        "accuracy": history[-1]["test_acc"],
        "sparsity": {"attained": rate, "layers": layers}, "peak_memory": 10**9, "rounds": [],
        "cost": {"dense": side(1.0), "pruned": side(left), "timed": {"device": "cpu", "threads": 1}}, "seconds": 150.0,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=10_000)
    jobs = parser.parse_args().jobs
    rng = random.Random(0)
    with TemporaryDirectory() as place:
        study = Path(place, "many")
        for number in range(jobs):
            folder = study / f"prune={METHODS[number % 10]},rate={RATES[number // 10 % 10]:g},seed={number // 100}"
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(json.dumps(result(number, rng)))
        began = time.perf_counter()
        done = summary.write(study)
        seconds = time.perf_counter() - began
        pages = {path.name: path.stat().st_size for path in done.paths if path.suffix in (".html", ".csv", ".md")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{jobs} jobs: {seconds:.1f} s, {len(done.paths)} files, peak memory {peak / 1e6:.0f} MB, {pages}")
    for failure in done.failures:
        print(f"not drawn: {failure}")


if __name__ == "__main__":
    main()
