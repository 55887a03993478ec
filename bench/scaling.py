"""How time and memory grow: with parameters, jobs, ranks and rounds.

    python bench/scaling.py [parameters] [jobs] [ranks] [rounds]     # default: all; about ten minutes on two cores

Each size is measured once, in a process of its own, one thread, with the peak memory of all its lines. `power` is the
slope between two sizes in logarithms: 1 is linear, 2 is quadratic. Ranks are processes that share this machine's cores.
"""

import argparse
import json
import math
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

METHODS = ("none", "usp", "gmp", "sp", "rigl", "set", "snip", "grasp", "synflow", "lottery")
RATES = tuple(i / 10 for i in range(10))
EPOCHS, LAYERS, PARAMS = 50, 20, 1_000_000
WIDTHS = (16, 32, 64, 128, 256)  # of the first of six convolutions; the others are twice and four times as wide
Row = tuple[float, str, float]  # size, what, seconds


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
        "schema": 1, "identity": str(number), "comparable": "c", "asked": "a", "values": {},
        "name": "many", "method": method, "rate": rate, "seed": seed,
        "overrides": [f"prune={method}", f"rate={rate}", f"seed={seed}", "model=resnet20", "epochs=50"],
        "config": {"epochs": EPOCHS, "rate": rate, "seed": seed, "model": {"_target_": "m", "width": 16}},
        "labels": {"model": "resnet20", "data": "cifar10", "optim": "sgd"}, "versions": {"torch": "2.11"},
        "device": "cpu", "data": {"fingerprint": "f", "classes": 10}, "history": history,
        "accuracy": history[-1]["test_acc"],
        "sparsity": {
            "attained": rate, "units": PARAMS, "removed": int(rate * PARAMS), "zero_weights": rate, "collapsed": [],
            "layers": layers,
        },
        "peak_memory": 10**9, "rounds": [], "seconds": 150.0,
        "cost": {"dense": side(1.0), "pruned": side(left),
                 "timed": {"device": "cpu", "threads": 1, "precision": "float32"}},
    }  # fmt: skip


def parameters(width: float) -> Iterator[Row]:
    """VGG-16 of `width` times its channels."""
    import torch

    from prunelab.channels.plan import Plan
    from prunelab.channels.surgery import shrink
    from prunelab.channels.tracing.graph import channel_graph
    from prunelab.channels.units import Channels
    from prunelab.compact import file
    from prunelab.core.allocation import Global, Uniform
    from prunelab.core.granularity import Weight
    from prunelab.core.network.prunable import prunable_weights
    from prunelab.core.pruner import Pruner
    from prunelab.core.schedule import Rounds
    from prunelab.core.time import Progress
    from prunelab.criteria.norm import Norm
    from prunelab.models.vgg import vgg16

    net, x = vgg16(width=width), torch.rand(2, 3, 32, 32)
    size = sum(p.numel() for p in net.parameters()) / 1e6
    pruner = Pruner(Norm(), Weight(), Global(), Rounds(rate=0.8, start=0.0))
    pruner.attach(net)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    yield size, "scores, one threshold, masks", seconds(lambda: pruner.update(Progress(0, 100, 10)))
    net(x).sum().backward()
    yield size, "step of SGD with momentum", seconds(optimizer.step, 5)
    yield size, "zeros after a step", seconds(lambda: pruner.apply(optimizer), 5)
    with TemporaryDirectory() as place:
        path = Path(place, "model.safetensors")
        args = {"width": width, "num_classes": 10}
        yield size, "compact file", seconds(lambda: file.save(path, net, Plan(), "vgg.vgg16", args))
    began = time.perf_counter()
    channel_graph(net, x)
    yield size, "channels found", time.perf_counter() - began
    units = Channels().bind(net, prunable_weights(net), x)
    keep = Uniform()({name: torch.rand(len(numbers)) for name, numbers in units.numbers.items()}, 0.5)
    yield size, "half of the channels removed", seconds(lambda: shrink(net, units.plan(keep)))


def jobs(count: int) -> Iterator[Row]:
    """Made-up results of 10 methods, 10 rates, 50 epochs and 20 layers."""
    from prunelab.report import listing, summary

    rng = random.Random(0)
    with TemporaryDirectory() as place:
        study = Path(place, "many")
        for number in range(count):
            folder = study / f"prune={METHODS[number % 10]},rate={RATES[number // 10 % 10]:g},seed={number // 100}"
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(json.dumps(result(number, rng)))
        yield count, "ls", seconds(lambda: listing.list_jobs(study))
        yield count, "report, with tables and figures", seconds(lambda: summary.write(study))


def ranks(count: int) -> Iterator[Row]:
    """Processes that train ResNet-8 under DDP, on 1,280 images in batches of 64 in all."""
    epochs = trained(
        f"optim.batch_size={64 // count}", "epochs=3", "prune=usp", "rate=0.5", "data.train=1280",
        *(("trainer=ddp", f"trainer.devices={count}", "trainer.accelerator=cpu") if count > 1 else ("trainer=cpu",)),
    )["history"]  # fmt: skip
    yield count, "epoch, with evaluation", min(epoch["seconds"] for epoch in epochs[1:])


def rounds(count: int) -> Iterator[Row]:
    """Prune and retrain ResNet-8 for an epoch."""
    began = time.perf_counter()
    result = trained("prune=finetune", "rate=0.9", "epochs=1", f"rounds={count}", "data.train=640", "trainer=cpu")
    yield count, "training", result["seconds"]
    yield count, "whole job", time.perf_counter() - began


PARTS: dict[str, tuple[Callable[[float], Iterator[Row]], tuple[float, ...], str]] = {
    "parameters": (parameters, (0.14, 0.25, 0.5, 1.0, 2.0), "M"),
    "jobs": (jobs, (10, 100, 1000, 10_000), ""),
    "ranks": (ranks, (1, 2, 4), ""),
    "rounds": (rounds, (1, 2, 4, 8), ""),
}


def trained(*overrides: str) -> dict:
    """The result of a job on built-in images, in a process of its own."""
    with TemporaryDirectory() as place:
        few = [
            "data=shapes",
            "data.val=100",
            "data.test=100",
            "model=resnet8",
            "logger=none",
            f"hydra.run.dir={place}/job",
        ]
        command = [sys.executable, "-m", "prunelab.train", *few, *overrides, f"parents={place}/parents"]
        subprocess.run(command, check=True, cwd=place, stdout=subprocess.DEVNULL)
        return json.loads(Path(place, "job", "result.json").read_text())


def seconds(work: Callable[[], object], times: int = 1) -> float:
    """Of the fastest of `times`."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def one(part: str, size: float) -> None:
    """Prints the rows of one size as JSON, then the peak memory in bytes of this process or its largest child."""
    rows = list(PARTS[part][0](size))
    unit = 1 if sys.platform == "darwin" else 1024
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"rows": rows, "peak": peak * unit}))


def table(part: str) -> None:
    _, sizes, unit = PARTS[part]
    before: dict[str, tuple[float, float]] = {}
    print(f"\n{part:34}{'seconds':>10}{'each':>12}{'power':>8}{'peak MB':>9}", flush=True)
    for size in sizes:
        command = [sys.executable, __file__, "--one", part, str(size)]
        measured = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        )
        for count, what, took in measured["rows"]:
            power = math.log(took / before[what][1], count / before[what][0]) if what in before else math.nan
            before[what] = count, took
            print(
                f"{count:7.4g}{unit} {what:25}{took:10.3f}{took / count:12.6f}"
                f"{'' if math.isnan(power) else format(power, '.2f'):>8}{measured['peak'] / 1e6:9.0f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--one", nargs=2, metavar=("PART", "SIZE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if args.one:
        one(args.one[0], type(PARTS[args.one[0]][1][0])(float(args.one[1])))
        return
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for part in args.parts or PARTS:
        table(part)


if __name__ == "__main__":
    main()
