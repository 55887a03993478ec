"""Sparsity by layer, counted on the weights; what is masked must be 0."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from prunelab.core.network.prunable import layer_weights, unprunable_weights
from prunelab.core.types import Masks


def weight_counts(net: nn.Module) -> dict[str, int]:
    """The weights of each layer that may be pruned, also where it is frozen."""
    return {name: weight.numel() for name, weight in layer_weights(net).items()}


def nonzero_counts(net: nn.Module) -> dict[str, int]:
    """The weights of each layer that may be pruned that are not 0."""
    weights = layer_weights(net)
    counts = torch.stack([weight.count_nonzero() for weight in weights.values()]).tolist()
    return dict(zip(weights, counts, strict=True))


def refuse_nonzero(net: nn.Module, masks: Masks) -> None:
    """Raises RuntimeError where a weight of `net` that `masks` has removed is not 0, by name."""
    weights = dict(net.named_parameters())
    for name, mask in masks.items():
        if revived := int(weights[name].masked_fill(mask.to(weights[name].device), 0).count_nonzero()):
            raise RuntimeError(
                f"{name}: {revived} of {int((~mask).sum())} masked weights are not 0, so the sparsity would not be "
                "that of the tested network: leave out callbacks that change weights"
            )


def sparsity_report(
    net: nn.Module, units: Mapping[str, tuple[int, int]], dense: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Per layer and overall: weights and zeros among them, and `units` as (removed, all) where a pruner has any.

    `dense` are the weight counts of the unpruned network, where this one is smaller: removed weights count as zeros.
    Fractions are in [0, 1]; `attained` is of units, `zero_weights` of the weights of all prunable layers,
    frozen ones too; `collapsed` names the layers with a single unit left, `unprunable` what is in none of these layers.
    """
    nonzero = nonzero_counts(net)
    weights = dense if dense is not None else weight_counts(net)
    layers = {}
    for name in dict.fromkeys([*weights, *units]):  # blocks are not layers, and a layer may have two groups of units
        removed, count = units.get(name, (0, 0))
        zeros = weights.get(name, 0) - nonzero.get(name, 0)
        layers[name] = {"units": count, "removed": removed, "weights": weights.get(name, 0), "zeros": zeros}
    total = {key: sum(layer[key] for layer in layers.values()) for key in ("units", "removed", "weights", "zeros")}
    return {
        "attained": total["removed"] / total["units"] if total["units"] else 0.0,
        "units": total["units"],
        "removed": total["removed"],
        "zero_weights": total["zeros"] / total["weights"] if total["weights"] else 0.0,
        "collapsed": [name for name, c in layers.items() if c["units"] - c["removed"] == 1 < c["units"]],
        "layers": layers,
        "unprunable": unprunable_weights(net),
    }
