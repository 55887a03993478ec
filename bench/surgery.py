"""Time and result of removing half of the channels, beside Torch-Pruning.

Both remove half of the channels of each layer at random, from the same network with the same example, in turns. Seconds
are this process's CPU time, medians; the ratio is that of each round: median, smallest and largest. Ours: trace the
coupling, shrink; certified before anything is printed. The proof that each group can be cut, which Torch-Pruning has
not, is a row of its own. Torch-Pruning: build the dependency graph, step; its network is
only run forward, as there is no masked one to compare with.
MACs are counted by prunelab.measure.profiler for both.
"""

import argparse
import copy
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torchvision.models as tv
from torch import Tensor, nn

from prunelab.channels import units as channel_units
from prunelab.channels.equivalence.certificate import EquivalenceCheck
from prunelab.channels.equivalence.proof import unremovable
from prunelab.channels.equivalence.trial import mask
from prunelab.channels.surgery import shrink
from prunelab.channels.units import Channels
from prunelab.core.allocation import Uniform
from prunelab.core.network.prunable import prunable_weights
from prunelab.measure.profiler import network_cost
from prunelab.models import cifar_resnet, densenet, mobilenet_v2, resnet, vgg

try:
    import torch_pruning
except ImportError:
    torch_pruning = None

FIVE = ["resnet18", "vgg16", "densenet40", "mobilenet_v2", "torchvision mobilenet_v3_small"]
NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {  # and the size of its images
    "resnet18": (resnet.resnet18, 32),
    "resnet20, option A": (cifar_resnet.resnet20, 32),
    "resnet56, option A": (cifar_resnet.resnet56, 32),
    "vgg16": (vgg.vgg16, 32),
    "densenet40": (densenet.densenet40, 32),
    "mobilenet_v2": (mobilenet_v2.MobileNetV2, 32),
    "torchvision resnet50": (tv.resnet50, 224),
    "torchvision resnext50": (tv.resnext50_32x4d, 224),
    "torchvision densenet121": (tv.densenet121, 224),
    "torchvision mobilenet_v3_small": (tv.mobilenet_v3_small, 224),
    "torchvision efficientnet_b0": (tv.efficientnet_b0, 224),
    "torchvision googlenet": (lambda: tv.googlenet(init_weights=False), 224),
    "torchvision shufflenet_v2_x1_0": (tv.shufflenet_v2_x1_0, 224),
}


PROOFS: list[float] = []  # their seconds


def timed_proof(*args: Any) -> dict[str, str]:
    began = time.process_time()
    refused = unremovable(*args)
    PROOFS.append(time.process_time() - began)
    return refused


def millions(net: nn.Module, x: Tensor) -> float:
    """MACs of one image."""
    return network_cost(net, x).macs / 1e6


def ours(net: nn.Module, x: Tensor) -> tuple[float, str]:
    """Seconds, and the difference between the shrunk and the masked network."""
    channel_units.unremovable = timed_proof
    began = time.process_time()
    units = Channels().bind(net, prunable_weights(net), x)
    keep = Uniform()({name: torch.rand(len(numbers)) for name, numbers in units.numbers.items()}, 0.5)
    plan = units.plan(keep)
    took = time.process_time() - began - PROOFS[-1]
    mask(net, units.expand(keep), units.norms)
    check = EquivalenceCheck(net, x)
    began = time.process_time()
    shrink(net, plan)
    took += time.process_time() - began
    certificate = check.certify(net)
    float32 = max(certificate.eval_float32, certificate.train_float32)
    float64 = max(certificate.eval_float64, certificate.train_float64)
    return took, f"{float32:.0e} {float64:.0e}"


def torch_prunings(net: nn.Module, x: Tensor) -> tuple[float, str]:
    """Seconds, and whether the network runs. It must be told the last layer, which stays; our graph finds that out.

    Attention as in timm and Transformers holds sizes of its own, which are mended afterwards, as in its examples.
    """
    last = [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    attention = [m for m in net.modules() if isinstance(getattr(m, "qkv", None), nn.Linear)]
    separate = [m for m in net.modules() if isinstance(getattr(m, "q_proj", None), nn.Linear)]
    parts = {part: m.num_attention_heads for m in separate for part in (m.q_proj, m.k_proj, m.v_proj)}
    began = time.process_time()
    pruner = torch_pruning.pruner.MagnitudePruner(
        net,
        x,
        torch_pruning.importance.RandomImportance(),
        pruning_ratio=0.5,
        ignored_layers=[last],
        num_heads={m.qkv: m.num_heads for m in attention} | parts,
    )
    pruner.step()
    took = time.process_time() - began
    for module in attention:
        module.num_heads = pruner.num_heads[module.qkv]
        module.attn_dim = module.qkv.out_features // 3
        module.head_dim = module.attn_dim // module.num_heads
    for module in separate:
        module.head_dim = module.q_proj.out_features // pruner.num_heads[module.q_proj]
    net(x)
    return took, "runs"


def attempt(
    cut: Callable[[nn.Module, Tensor], tuple[float, str]], net: nn.Module, x: Tensor
) -> tuple[float, str, float]:
    """Cuts `net` in eval mode. Seconds, a verdict on the result, and its millions of MACs."""
    net.eval()
    try:
        took, verdict = cut(net, x)
        return took, verdict, millions(net, x)
    except Exception as error:  # a failure gets its line in the table
        return float("nan"), f"fails: {type(error).__name__}: {str(error).splitlines()[0][:60]}", float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--nets", nargs="*", default=FIVE, choices=list(NETS), metavar="NET", help=", ".join(NETS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    contestants = {"ours": ours}
    if torch_pruning is None:
        print("torch-pruning is not installed (pip install torch-pruning): only ours is measured")
    else:
        contestants["Torch-Pruning"] = torch_prunings
    print(f"torch {torch.__version__}, one thread, median of {args.repeats}; ours: errors in float32, in float64")
    print(f"{'net':32}{'':15}{'s':>8}{'MMACs':>9}{'left':>9}")
    for name in args.nets:
        build, size = NETS[name]
        torch.manual_seed(0)
        net, x = build(), torch.randn(2, 3, size, size)
        whole, runs = millions(net, x), {who: list[tuple[float, str, float]]() for who in contestants}
        for i in range(args.repeats):
            for who, cut in list(contestants.items())[:: 1 if i % 2 else -1]:
                runs[who].append(attempt(cut, copy.deepcopy(net), x))
        for who, results in runs.items():
            seconds, left = (statistics.median(run[i] for run in results) for i in (0, 2))
            print(f"{name:32}{who:15}{seconds:8.2f}{whole:9.0f}{left:9.0f}   {results[0][1]}", flush=True)
        print(f"{name:32}{'proof':15}{statistics.median(PROOFS):8.2f}", flush=True)
        PROOFS.clear()
        if len(runs) == 2:
            ratios = [a[0] / b[0] for a, b in zip(*runs.values(), strict=True)]
            middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
            print(f"{name:32}{'ratio':15}{middle:8.2f}   [{low:.2f}, {high:.2f}], n = {len(ratios)}", flush=True)


if __name__ == "__main__":
    main()
