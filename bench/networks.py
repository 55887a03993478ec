"""MACs left and seconds, beside Torch-Pruning, for networks of timm and torchvision: half of all units, at random.

    python bench/networks.py resnext50_32x4d torchvision/regnet_y_400mf vit_tiny_patch16_224@224

A name is timm's, or torchvision's behind `torchvision/`; `@size` is that of the images, else timm's own or 224. Prints
the rows of a table. Ours are certified, and what stays is listed below a row with --stays. Torch-Pruning's networks are
only run; it is told the last layer and the heads of fused qkv layers. Each gets --limit seconds.
"""

import argparse
import logging
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import surgery
import timm
import torch
import torchvision.models as tv
from torch import Tensor, nn

from prunelab.channels.tracing.coupling import INPUT, OUTPUT
from prunelab.channels.tracing.graph import channel_graph


def network(name: str) -> tuple[nn.Module, Tensor]:
    """An untrained network, in eval mode, and a batch of two images."""
    name, _, size = name.partition("@")
    torch.manual_seed(0)
    if name.startswith("torchvision/"):
        net = tv.get_model(name.removeprefix("torchvision/"), weights=None)
    else:
        net = timm.create_model(name, pretrained=False)
        size = size or str(net.default_cfg["input_size"][-1])
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # a fresh norm would hide errors
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return net.eval(), torch.randn(2, 3, int(size or 224), int(size or 224))


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"over {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def cell(cut: Callable[..., tuple[float, str]], net: nn.Module, x: Tensor, limit: int) -> tuple[str, str]:
    """MACs left in % / seconds, and the verdict."""
    try:
        with limited(limit):
            seconds, verdict, left = surgery.attempt(cut, net, x)
    except TimeoutError as error:
        return "", str(error)
    return ("", verdict) if left != left else (f"{100 * left / surgery.millions(net, x):.1f} / {seconds:.2f}", verdict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--limit", type=int, default=240)
    parser.add_argument("--ours", action="store_true", help="leave Torch-Pruning out")
    parser.add_argument("--stays", action="store_true", help="say which weights stay, and why")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    print(
        "| network | ours, MACs left in % / seconds | certificate | Torch-Pruning | |\n|---|---|---|---|---|",
        flush=True,
    )
    for name in args.names:
        net, x = network(name)
        contestants = [surgery.ours] if args.ours else [surgery.ours, surgery.torch_prunings]
        cells = [text for cut in contestants for text in cell(cut, net, x, args.limit)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        if args.stays:
            for weight, why in channel_graph(net, x).stays.items():
                if why not in (INPUT, OUTPUT):
                    print(f"    {weight}: {why}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
