"""Copies of networks without what they have kept of a step's graph, as the loss or a weight that a hook computes."""

import copy
from typing import TypeVar

from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)


def detached_copy(net: N) -> N:
    """A copy of `net`; what is kept of a graph, which `copy.deepcopy` refuses, is copied without the graph."""
    kept = [x for module in net.modules() for x in vars(module).values() if isinstance(x, Tensor) and not x.is_leaf]
    return copy.deepcopy(net, {id(x): x.detach().clone() for x in kept})
