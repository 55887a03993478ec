"""Outputs and latency of ONNX files in onnxruntime, beside PyTorch.

python bench/export.py                     # small ResNet-18, MobileNetV2, DenseNet-40, and keras_cnn masked
python bench/export.py --rounds 50 --batch 1 8
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import onnxruntime
import torch
from shrink import halved
from torch import Tensor, nn

import prunelab.export
from prunelab.core.network.prunable import prunable_weights
from prunelab.models.densenet import densenet40
from prunelab.models.keras_cnn import KerasCNN
from prunelab.models.mobilenet_v2 import MobileNetV2
from prunelab.models.resnet import resnet18

Run = Callable[[], object]


def masked(net: nn.Module) -> nn.Module:
    """The smaller half of the weights of each layer set to 0."""
    with torch.no_grad():
        for w in prunable_weights(net).values():
            w.mul_(w.abs() > w.abs().median())
    return net


def nets() -> dict[str, nn.Module]:
    """In eval mode, with batch norms that have seen noise: fresh ones do nothing."""
    small = {"resnet18": resnet18(), "mobilenet_v2": MobileNetV2(), "densenet40": densenet40()}
    pruned = {f"{name}, half of its filters": halved(net) for name, net in small.items()}
    pruned["keras_cnn, half of its weights masked"] = masked(KerasCNN())
    with torch.no_grad():
        for net in pruned.values():
            net.train()(torch.randn(32, 3, 32, 32))
    return {name: net.eval() for name, net in pruned.items()}


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def timings(runs: list[Run], rounds: int, warmup: int = 3) -> list[float]:
    """Median seconds of each; they take turns, so that other load on the machine affects all alike."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(warmup + rounds):
        for run, times in zip(runs, seconds, strict=True):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return [median(times[warmup:]) for times in seconds]


def compare(name: str, net: nn.Module, path: Path, batches: list[int], rounds: int) -> None:
    prunelab.export.onnx(net, torch.randn(2, 3, 32, 32), path)
    runtime = session(path)
    last = net.to(memory_format=torch.channels_last)
    input_name = runtime.get_inputs()[0].name
    for n in batches:
        x = torch.randn(n, 3, 32, 32)
        images, array = x.contiguous(memory_format=torch.channels_last), x.numpy()
        difference = relative_difference(torch.from_numpy(runtime.run(None, {input_name: array})[0]), net(x))
        runs: list[Run] = [lambda: last(images), lambda: runtime.run(None, {input_name: array})]  # noqa: B023
        torch_ms, onnx_ms = (1000 * s for s in timings(runs, rounds))
        numbers = (f"{difference:.1e}", f"{torch_ms:.2f}", f"{onnx_ms:.2f}", f"{torch_ms / onnx_ms:.2f}")
        print("|", " | ".join((name, str(n), *numbers)), "|", flush=True)


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"one thread each, medians of {args.rounds} interleaved rounds; PyTorch in channels_last")
    print("| net | batch | difference | PyTorch (ms) | onnxruntime (ms) | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for name, net in nets().items():
            compare(name, net, Path(folder) / "net.onnx", args.batch, args.rounds)


if __name__ == "__main__":
    main()
