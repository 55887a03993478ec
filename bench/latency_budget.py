"""What budget=latency saves where a rate is asked for, on random weights.

    python bench/latency_budget.py resnet20 mobilenet_v2

One thread, batches of 8 images. A network is cut, then timed beside the uncut one, three times: `parts` are sums of
the fewest seconds of each layer, by the wall's clock; `passes` are medians of 30 whole passes in turns, by the thread's
own clock, which stands still while other processes have its core. With --drift weights change between the measurement
and the cut, as by training: each layer and each filter by a factor e^x, x normal with that standard deviation.
"""

import argparse
import copy
import logging
import time
from statistics import median

import torch
from torch import nn

from prunelab.channels.budget import Budget
from prunelab.channels.surgery import shrink
from prunelab.channels.units import Filter
from prunelab.core.allocation import Allocation, Global, Uniform
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.criteria.norm import Norm
from prunelab.measure.layer_seconds import layer_seconds
from prunelab.models.cifar_resnet import resnet20
from prunelab.models.mobilenet_v2 import MobileNetV2

NETWORKS = {"resnet20": resnet20, "mobilenet_v2": MobileNetV2}
IMAGES = torch.zeros(8, 3, 32, 32)


def compare(name: str, allocation: Allocation, rate: float, round_to: int, drift: float) -> None:
    torch.manual_seed(0)
    net: nn.Module = NETWORKS[name]().eval()
    pruner = Pruner(Norm(), Filter(), allocation, Rounds(rate, start=0.0), budget=Budget("latency", round_to))
    pruner.attach(net, IMAGES)
    start = time.monotonic()
    pruner.masks_at(rate)
    seconds = time.monotonic() - start
    with torch.no_grad():
        for weight in (p for p in net.parameters() if p.dim() > 1):
            weight *= torch.exp(drift * (torch.randn(len(weight)) + torch.randn(()))).view(
                -1, *[1] * (weight.dim() - 1)
            )
    small = copy.deepcopy(net)
    assert isinstance(pruner.granularity, Filter)
    shrink(small, pruner.granularity.plan(pruner.masks_at(rate)))
    parts, passes = zip(*(saved(net, small) for _ in range(3)), strict=True)
    says = "parts {:.3f} ({:.3f} to {:.3f}), passes {:.3f} ({:.3f} to {:.3f})".format(
        *(pick(times) for times in (parts, passes) for pick in (median, min, max))
    )
    how = f"{type(allocation).__name__} round_to={round_to} drift={drift:g}"
    print(f"{name} {how}: asked {rate:.2f}, saved by {says}; {seconds:.0f} s of timing", flush=True)


@torch.no_grad()
def saved(net: nn.Module, small: nn.Module) -> tuple[float, float]:
    dense, pruned = (sum(table.values()) for table in layer_seconds([net, small], IMAGES, 5.0, 5, 40))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(30):
        for each, seconds in zip((net, small), times, strict=True):
            each(IMAGES)  # into the caches
            start = time.thread_time()
            each(IMAGES)
            seconds.append(time.thread_time() - start)
    return 1 - pruned / dense, 1 - median(times[1]) / median(times[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+", choices=NETWORKS)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.3, 0.5])
    parser.add_argument("--round-to", type=int, default=1)
    parser.add_argument("--drift", type=float, default=0.0)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    for name in args.networks:
        for allocation in (Uniform(), Global()):
            for rate in args.rates:
                compare(name, allocation, rate, args.round_to, args.drift)
