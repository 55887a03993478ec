"""Classification accuracy."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from prunelab.core import distributed
from prunelab.core.network.preserve import preserve_state


def accuracy(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The fraction of correctly classified images of all ranks, in eval mode; the network's state is preserved."""
    device = next(net.parameters()).device
    correct, count = torch.zeros((), dtype=torch.long, device=device), 0
    with preserve_state(net):
        for x, y in batches:
            correct += (net(x).argmax(1) == y).sum()  # read once at the end: no synchronisation with a GPU per batch
            count += len(y)
    total_correct, images = distributed.total([int(correct), count], device)
    if not images:
        raise ValueError("0 images have no accuracy: give a loader that is not empty")
    return total_correct / images
