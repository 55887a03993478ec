"""`prunelab.prune` on networks of torchvision and timm at their full size: seconds, and how much faster the ONNX is.

python bench/one_call.py                           # ResNet-50 and EfficientNet-B0 of torchvision
python bench/one_call.py --nets timm:regnety_008   # others, by their names there

Both ONNX files run in onnxruntime on one thread, in turns. Weights are random: nothing here depends on their values
but which channels go.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

import torch
import torchvision.models
from torch import nn

import prunelab
import prunelab.export


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    if not name.startswith("timm:"):
        return torchvision.models.get_model(name)
    import timm

    return timm.create_model(name.removeprefix("timm:"))


def session(path: Path) -> Callable[[torch.Tensor], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    opened = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: opened.run(None, {opened.get_inputs()[0].name: x.numpy()})


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(name: str, size: int, rate: float, budget: str, round_to: int, rounds: int, folder: Path) -> None:
    net, example = network(name).eval(), torch.zeros(1, 3, size, size)
    start = time.perf_counter()
    small, report = prunelab.prune(net, example, rate=rate, budget=budget, round_to=round_to)
    took = time.perf_counter() - start
    files = [folder / f"{which}.onnx" for which in ("dense", "small")]
    exported = [
        seconds(lambda n=n, f=f: prunelab.export.onnx(n, example, f)) for n, f in zip((net, small), files, strict=True)
    ]
    dense, fast = (session(file) for file in files)
    x = torch.rand(1, 3, size, size)
    pairs = [(seconds(lambda: dense(x)), seconds(lambda: fast(x))) for _ in range(rounds + 2)][2:]
    lower, middle, upper = quantiles([d / s for d, s in pairs], method="inclusive")
    before, after, certificate = report.before, report.after, report.certificate
    print(f"{name}, {size}x{size}, {rate:g} of {budget}, widths in multiples of {round_to}")
    print(f"  prune {took:.1f} s, export to ONNX {exported[1]:.1f} s (of the dense network {exported[0]:.1f} s)")
    print(f"  parameters {before.params / 1e6:.2f} M -> {after.params / 1e6:.2f} M")
    print(f"  MACs {before.macs / 1e6:.0f} M -> {after.macs / 1e6:.0f} M")
    print(f"  certificate {certificate.eval_float32:.1e} in eval mode, {certificate.train_float32:.1e} in train mode")
    print(f"  onnxruntime {1e3 * median(d for d, _ in pairs):.1f} ms -> {1e3 * median(s for _, s in pairs):.1f} ms")
    print(f"  {middle:.2f} times as fast, quartiles {lower:.2f} to {upper:.2f}, n = {rounds}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=["resnet50", "efficientnet_b0"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rate", type=float, default=0.5)
    parser.add_argument("--budget", default="macs")
    parser.add_argument("--round-to", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for each in args.nets:
            measure(each, args.size, args.rate, args.budget, args.round_to, args.rounds, Path(scratch))
