"""Of how many images does a net tell the class?"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from prunelab.core import distributed
from prunelab.core.preserve import preserve_state


def accuracy(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """A fraction of the images of all ranks; in eval mode, without a trace."""
    device = next(net.parameters()).device
    right, count = torch.zeros((), dtype=torch.long, device=device), 0
    with preserve_state(net):
        for x, y in batches:
            right += (net(x).argmax(1) == y).sum()  # read once, at the end: until then a GPU goes on
            count += len(y)
    right_of_all, images = distributed.total([int(right), count], device)
    if not images:
        raise ValueError("0 images have no accuracy: give a loader with some")
    return right_of_all / images
