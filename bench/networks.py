"""MACs left and seconds, beside Torch-Pruning, for networks of others: half of all units, at random.

    python bench/networks.py resnext50_32x4d torchvision/regnet_y_400mf vit_tiny_patch16_224@224 transformers/bert

A name is timm's, torchvision's behind `torchvision/`, or `transformers/bert` and `transformers/vit`; `@size` is that of
the images, else timm's own or 224. Prints the rows of a table. Ours are certified, and what stays is listed below a row
with --stays. Torch-Pruning's networks are only run; it is told the last layer and the heads of fused qkv layers. Where
it leaves another share of the layers' outputs than we do, MACs left say little: "ours at their widths" are those of our
groups with the shares that it left of their layers. Each gets --limit seconds of CPU time.
"""

import argparse
import copy
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
import transformers
from torch import Tensor, nn

from prunelab.channels.surgery import shrink
from prunelab.channels.tracing.coupling import INPUT, OUTPUT
from prunelab.channels.tracing.graph import channel_graph
from prunelab.channels.units import Channels
from prunelab.core.network.prunable import prunable_weights


def network(name: str) -> tuple[nn.Module, Tensor]:
    """An untrained network, in eval mode, and a batch of two images."""
    name, _, size = name.partition("@")
    torch.manual_seed(0)
    if name.startswith("transformers/"):
        net, example = TRANSFORMERS[name.removeprefix("transformers/")]()
        return _spread(net).eval(), example
    if name.startswith("torchvision/"):
        net = tv.get_model(name.removeprefix("torchvision/"), weights=None)
    else:
        net = timm.create_model(name, pretrained=False)
        size = size or str(net.default_cfg["input_size"][-1])
    return _spread(net).eval(), torch.randn(2, 3, int(size or 224), int(size or 224))


@torch.no_grad()
def _spread(net: nn.Module) -> nn.Module:
    """With random numbers for what begins as a constant: scales of 1 and last layers of 0 would hide errors."""
    for name, parameter in net.named_parameters():
        if parameter.numel() > 1 and (parameter == parameter.flatten()[0]).all():
            if parameter.dim() > 1 and max(parameter.shape) < parameter.numel():
                nn.init.normal_(parameter, 0, parameter[0].numel() ** -0.5)
            elif name.endswith("bias"):
                nn.init.normal_(parameter, 0, 0.3)
            else:
                nn.init.uniform_(parameter, 0.5, 1.5)
    return net


class Logits(nn.Module):
    """A network of Transformers, which returns a dictionary: Torch-Pruning wants a tensor."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).logits


def _bert() -> tuple[nn.Module, Tensor]:
    sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}
    net = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=1000, **sizes))
    return Logits(net), torch.randint(0, 1000, (2, 64))


def _vit() -> tuple[nn.Module, Tensor]:
    sizes = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 768}
    net = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes))
    return Logits(net), torch.randn(2, 3, 224, 224)


TRANSFORMERS = {"bert": _bert, "vit": _vit}


class TimeUp(BaseException):
    """Not an Exception, which the proof takes for one of the network's own."""


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeUp(f"over {seconds} s")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def cells(cut: Callable[..., tuple[float, str]], net: nn.Module, x: Tensor, limit: int) -> tuple[list[str], nn.Module]:
    """MACs left in % / seconds, the share of outputs left in %, the verdict; and the network that is left."""
    small = copy.deepcopy(net)
    try:
        with limited(limit):
            seconds, verdict, left = surgery.attempt(cut, small, x)
    except TimeUp as error:
        return ["", "", str(error)], net
    if left != left:
        return ["", "", verdict], net
    macs = f"{100 * left / surgery.millions(net, x):.1f} / {seconds:.2f}"
    return [macs, f"{100 * outputs(small) / outputs(net):.0f}", verdict], small


def outputs(net: nn.Module) -> int:
    """How many channels all convolutions and linear layers make."""
    return sum(len(m.weight) for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d))


def at_widths_of(small: nn.Module, net: nn.Module, x: Tensor) -> str:
    """MACs left in % when our groups keep the shares that `small` keeps of their layers' outputs."""
    net = copy.deepcopy(net)
    units = Channels().bind(net, prunable_weights(net), x)
    theirs, ours, dense = dict(small.named_parameters()), dict(net.named_parameters()), surgery.millions(net, x)
    shares = {g.name: min(len(theirs[m]) / len(ours[m]) for m in g.makers) for g in units.groups}
    keep = {n: torch.arange(len(u)) < max(1, round(len(u) * shares[n])) for n, u in units.numbers.items()}
    shrink(net, units.plan(keep))
    net(x)
    return f"{100 * surgery.millions(net, x) / dense:.1f}"


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
    columns = "MACs left in % / seconds | outputs left in %"
    print(
        f"| network | ours: {columns} | certificate | Torch-Pruning: {columns} | | ours at their widths |", flush=True
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in args.names:
        net, x = network(name)
        contestants = [surgery.ours] if args.ours else [surgery.ours, surgery.torch_prunings]
        rows = [cells(cut, net, x, args.limit) for cut in contestants]
        texts = [text for row, _ in rows for text in row]
        if len(rows) == 2 and all(row[1] for row, _ in rows) and abs(int(rows[0][0][1]) - int(rows[1][0][1])) > 5:
            texts.append(at_widths_of(rows[1][1], net, x))
        print(f"| {name} | {' | '.join(texts)} |", flush=True)
        if args.stays:
            for weight, why in channel_graph(net, x).stays.items():
                if why not in (INPUT, OUTPUT):
                    print(f"    {weight}: {why}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
