"""How is a net looked at without leaving a trace?"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def preserve_state(net: nn.Module, training: bool = False) -> Iterator[None]:
    """A block in eval mode without gradients, or in `training` mode with them.

    Modes, buffers and random streams are put back.
    """
    modes = {module: module.training for module in net.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()] if training else []
    gpus = {p.device for p in net.parameters() if p.device.type == "cuda"}
    net.train(training)
    try:
        with torch.set_grad_enabled(training), torch.random.fork_rng(gpus):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
