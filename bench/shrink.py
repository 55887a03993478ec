"""Speed-up of a network without half of its filters: latency beside a network built that small, and epochs of a job.

python bench/shrink.py                     # ResNet-18 at batch 64, on this machine
python bench/shrink.py --result RESULT     # seconds of each epoch of a finished job, before and after surgery
"""

import argparse
import copy
import json
from pathlib import Path
from statistics import median

import torch
from torch import nn

from prunelab.channels.surgery import shrink
from prunelab.channels.units import Filter
from prunelab.core.allocation import Uniform
from prunelab.core.network.prunable import prunable_weights
from prunelab.measure.latency import latency
from prunelab.models.resnet import ResNet, projection, resnet18


def halved(net: nn.Module) -> nn.Module:
    """A copy without half of the filters of each group, chosen at random."""
    small = copy.deepcopy(net)
    filters = Filter().bind(small, prunable_weights(small), torch.zeros(2, 3, 32, 32))
    scores = {group: torch.rand(len(units)) for group, units in filters.numbers.items()}
    shrink(small, filters.plan(Uniform()(scores, 0.5)))
    return small


def latencies(batch: int, bouts: int, rounds: int) -> None:
    torch.manual_seed(0)
    dense = resnet18().eval().to(memory_format=torch.channels_last)
    native = ResNet((32, 64, 128, 256), 2, projection, 10).eval().to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    times = [latency([dense, halved(dense), native], images, rounds) for _ in range(bouts)]
    print(f"ResNet-18, batch {batch}, {torch.get_num_threads()} threads, {bouts} x {rounds} interleaved rounds")
    for name, ratios in (
        ("dense / small", [d / s for d, s, _ in times]),
        ("small / native at those widths", [s / n for _, s, n in times]),
    ):
        print(f"{name:32} median {median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


def epochs(result: Path) -> None:
    history = json.loads(result.read_text())["history"]
    for epoch in history:
        print(f"epoch {epoch['epoch']:3}  {epoch['seconds']:7.1f} s  units removed {100 * epoch['sparsity']:.0f} %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--result", type=Path, help="result.json of a job with Shrink")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--bouts", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    epochs(args.result) if args.result else latencies(args.batch, args.bouts, args.rounds)
