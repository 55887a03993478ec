"""Size and speed of compact files, beside dense safetensors and deflate.

python bench/compact.py     # random weights under one global threshold; two minutes on one core
python bench/compact.py RUN ...   # files of finished jobs, and the accuracy of their networks

`multiplied`: as in training, w * mask leaves -0.0 for negative weights. `at 0`: they become 0.0. Seconds are of one
processor. Outputs of 16 random images are compared after loading.
"""

import argparse
import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import safetensors.torch
import torch
from hydra.utils import instantiate
from torch import nn

import prunelab
from prunelab.channels.plan import Plan
from prunelab.compact.file import origin_of, save
from prunelab.compact.quantize import VALUES
from prunelab.core.allocation import Global
from prunelab.core.network.prunable import prunable_weights
from prunelab.data.normalise import Normalise
from prunelab.models.registry import build

NETS = {"resnet8": "cifar_resnet.resnet8", "keras_cnn": "keras_cnn.KerasCNN", "vgg11": "vgg.vgg11"}
RATES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.985)
T = TypeVar("T")


def masked(name: str, rate: float, multiplied: bool) -> nn.Module:
    torch.manual_seed(0)
    net = build(NETS[name], {}).eval()
    weights = prunable_weights(net)
    with torch.no_grad():
        for key, mask in Global()({key: w.detach().abs() for key, w in weights.items()}, rate).items():
            weights[key].mul_(mask)
            if not multiplied:
                weights[key].add_(0.0)
    return net


def timed(call: Callable[[], T]) -> tuple[float, T]:
    began = time.process_time()
    result = call()
    return time.process_time() - began, result


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def measure(name: str, rate: float, path: Path) -> None:
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for multiplied in (False, True):
        net = masked(name, rate, multiplied)
        dense = safetensors.torch.save(net.state_dict())
        packing, packed = timed(lambda dense=dense: len(zlib.compress(dense, 9)))
        masks = "multiplied" if multiplied else "at 0"
        row(name, rate, masks, "dense safetensors", f"{len(dense):,}", "", "", "")
        row(name, rate, masks, "deflate -9 of it", f"{packed:,}", f"{packing:.2f}", "", "")
        choices = [(values, True) for values in VALUES] if not multiplied else [("float32", True), ("float32", False)]
        for values, signs in choices:
            writing, size = timed(lambda net=net, v=values, s=signs: save(path, net, Plan(), NETS[name], {}, v, s))
            reading, loaded = timed(lambda: prunelab.load(path))
            with torch.no_grad():
                before, after = net(images), loaded(images)
            difference = float((before - after).abs().max() / before.abs().max())
            outputs = "identical" if torch.equal(before, after) else f"{difference:.0e} off"
            kind = values if signs else f"{values}, zeros without signs"
            times = (f"{writing:.2f}", f"{reading:.2f}")
            row(name, rate, masks, kind, f"{size:,}", *times, outputs)


def measure_job(job: Path, path: Path) -> None:
    """Rewrites the file of a job with each kind of values, and tests it on the job's test images."""
    result = json.loads((job / "result.json").read_text())
    splits = instantiate(result["config"]["data"]).load()
    x, y = Normalise(splits.mean, splits.std)(splits.test.x), splits.test.y
    model = job / "model.safetensors"
    net = prunelab.load(model)
    dense = safetensors.torch.save({name: t.contiguous() for name, t in net.state_dict().items()})
    packed = f"{len(zlib.compress(dense, 9)):,}"
    origin = origin_of(model)
    assert origin is not None
    for values in VALUES:
        size = save(path, net, *origin, values, False)
        reading, loaded = timed(lambda: prunelab.load(path))
        right = sum(int((loaded(a).argmax(1) == b).sum()) for a, b in zip(x.split(500), y.split(500), strict=True))
        accuracies = (f"{100 * result['accuracy']:.2f}", f"{100 * right / len(y):.2f}")
        zeros = f"{result['sparsity']['zero_weights']:.3f}"
        row(
            result["labels"]["model"],
            zeros,
            values,
            f"{len(dense):,}",
            packed,
            f"{size:,}",
            f"{reading:.3f}",
            *accuracies,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    runs = parser.parse_args().runs
    with TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "net.safetensors"
        if runs:
            row(
                "net",
                "zeros",
                "values",
                "dense",
                "deflate -9",
                "bytes",
                "s to load",
                "result (%)",
                "loaded (%)",
            )
            row("---", *["---:"] * 8)
            for job in runs:
                measure_job(job, path)
            return
        row("net", "rate", "masks", "file", "bytes", "s to write", "s to load", "outputs")
        row("---", "---:", "---", "---", "---:", "---:", "---:", "---")
        for name in NETS:
            for rate in RATES:
                measure(name, rate, path)


if __name__ == "__main__":
    main()
