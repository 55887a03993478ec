"""The parameters of a network that may be pruned."""

from collections.abc import Sequence
from fnmatch import fnmatch

from torch import nn

PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def layer_weights(net: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of convolutions and linear layers by name, a shared one once; never a bias or a norm."""
    owners = {id(m.weight) for m in net.modules() if isinstance(m, PRUNABLE)}
    return {name: p for name, p in net.named_parameters() if id(p) in owners}


def prunable_weights(net: nn.Module, skip: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """The `layer_weights` that may be pruned: all but those that match a pattern of `skip` ("fc.*").

    Raises ValueError when nothing is left, or when a pattern matches no prunable weight.
    """
    weights = layer_weights(net)
    for pattern in skip:
        if not any(fnmatch(name, pattern) for name in weights):
            raise ValueError(f"skip={pattern!r} matches no prunable weight; there are: {', '.join(weights)}")
    chosen = {name: p for name, p in weights.items() if not any(fnmatch(name, s) for s in skip)}
    if not chosen:
        what = "every prunable weight is skipped" if weights else "it has no convolution or linear layer"
        raise ValueError(f"{type(net).__name__}: nothing to prune, {what}")
    return chosen
