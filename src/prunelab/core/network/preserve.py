"""Runs a block on a network and restores its modes, buffers and random streams."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def preserve_state(net: nn.Module, training: bool = False) -> Iterator[None]:
    """Eval mode without gradients, or `training` mode with them; restored after the block."""
    modes = {module: module.training for module in net.modules()}
    places = ((m._buffers, name, b) for m in net.modules() for name, b in m._buffers.items() if b is not None)
    buffers = [(*place, place[-1].clone()) for place in places] if training else []
    gpus = {p.device for p in net.parameters() if p.device.type == "cuda"}
    net.train(training)
    try:
        with torch.set_grad_enabled(training), torch.random.fork_rng(gpus):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for owner, name, buffer, before in buffers:
                owner[name] = buffer.copy_(before)  # the network may have put another in its place
