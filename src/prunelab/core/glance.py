"""How is a net looked at without leaving a trace?"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def glance(net: nn.Module) -> Iterator[None]:
    """A block in eval mode without gradients; modes and random streams are put back, buffers never move."""
    modes = {module: module.training for module in net.modules()}
    gpus = {p.device for p in net.parameters() if p.device.type == "cuda"}
    net.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(gpus):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
