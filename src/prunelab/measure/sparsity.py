"""How much of each layer is gone, counted on the weights themselves?"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from prunelab.core.select import prunable_weights


def sparsity_report(net: nn.Module, units: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Per layer and overall: weights and zeros among them, and (removed, all) `units` where a pruner has any.

    Fractions are in [0, 1]; `attained` is of units, `zero_weights` of the weights of all prunable layers;
    `collapsed` names the layers of which a single unit is left.
    """
    layers = {}
    for name, weight in prunable_weights(net).items():
        removed, count = units.get(name, (0, 0))
        zeros = weight.numel() - int(weight.count_nonzero())
        layers[name] = {"units": count, "removed": removed, "weights": weight.numel(), "zeros": zeros}
    total = {key: sum(layer[key] for layer in layers.values()) for key in ("units", "removed", "weights", "zeros")}
    return {
        "attained": total["removed"] / total["units"] if total["units"] else 0.0,
        "units": total["units"],
        "removed": total["removed"],
        "zero_weights": total["zeros"] / total["weights"],
        "collapsed": [name for name, of in layers.items() if of["units"] - of["removed"] == 1 < of["units"]],
        "layers": layers,
    }
