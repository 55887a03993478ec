"""The parameters of a network that may be pruned, and those that stay dense."""

from collections.abc import Sequence
from fnmatch import fnmatch

from torch import Tensor, nn

PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)  # (in, out / groups, ...)
SEVERAL = (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)  # layers with more than one weight


def layer_weights(net: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of convolutions, linear, recurrent and attention layers by name, a shared one once.

    Never a bias or a norm. Frozen weights are among them.
    """
    owners = {id(weight) for module in net.modules() for weight in _weights(module)}
    return {name: p for name, p in net.named_parameters() if id(p) in owners}


def _weights(module: nn.Module) -> list[Tensor]:
    """All but those of its submodules."""
    if isinstance(module, SEVERAL):
        return [p for name, p in module.named_parameters(recurse=False) if "weight" in name]
    weight = own_weight(module) if isinstance(module, (*PRUNABLE, *TRANSPOSED)) else None
    return [] if weight is None else [weight]


def own_weight(layer: nn.Module) -> nn.Parameter | None:
    """Its parameter of that name; None where `layer.weight` is computed, which may change what it is computed from."""
    return layer._parameters.get("weight")


def prunable_weights(net: nn.Module, skip: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """The `layer_weights` that may be pruned: all that are trained but those that match a pattern of `skip` ("fc.*").

    Raises ValueError when nothing is left, or when a pattern matches no weight.
    """
    chosen = unskipped_weights(net, skip)
    trained = {name: p for name, p in chosen.items() if p.requires_grad}
    if not trained:
        why = "it has no convolution, linear, recurrent or attention layer"
        if layer_weights(net):
            why = "every prunable weight is skipped"
        if chosen:
            why = f"{', '.join(chosen)} {'is' if len(chosen) == 1 else 'are'} frozen: train it, by requires_grad_()"
        raise ValueError(f"{type(net).__name__}: nothing to prune, {why}")
    return trained


def unskipped_weights(net: nn.Module, skip: Sequence[str]) -> dict[str, nn.Parameter]:
    """The `layer_weights` that match no pattern. Raises ValueError for a pattern that matches none of them."""
    weights = layer_weights(net)
    for pattern in skip:
        if not any(fnmatch(name, pattern) for name in weights):
            raise ValueError(f"skip={pattern!r} matches no prunable weight; there are: {', '.join(weights)}")
    return {name: p for name, p in weights.items() if not any(fnmatch(name, s) for s in skip)}


def unprunable_weights(net: nn.Module) -> dict[str, int]:
    """Parameters of two or more dimensions that are in none of these layers, and how many weights each has.

    Such are those behind weight norm, masks of torch.nn.utils.prune and other parametrizations, and a module's own.
    """
    layers = layer_weights(net)
    return {name: p.numel() for name, p in net.named_parameters() if p.dim() > 1 and name not in layers}


def left_dense(net: nn.Module) -> list[str]:
    """A line for each reason why weights of `net` are never pruned, with their share of all parameters."""
    frozen = {name: p.numel() for name, p in layer_weights(net).items() if not p.requires_grad}
    reasons = {
        "frozen": frozen,
        "in no layer of a kind that is pruned, or behind a parametrization (remove it first)": unprunable_weights(net),
    }
    total = sum(p.numel() for p in net.parameters())
    return [
        f"left dense, {100 * sum(sizes.values()) / total:.3g} % of all parameters, {why}: {_shortened(list(sizes))}"
        for why, sizes in reasons.items()
        if sizes
    ]


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
