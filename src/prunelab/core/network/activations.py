"""Statistics of the inputs that layers receive."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.core.network.prunable import PRUNABLE, TRANSPOSED, own_weight
from prunelab.core.types import Scores


@torch.no_grad()
def input_squares(net: nn.Module, params: Mapping[str, nn.Parameter], calls: Iterable[tuple[Any, ...]]) -> Scores:
    """For each weight the sum of squares of each input channel of its layer, over images, positions and runs.

    In shapes that broadcast against the weight: (1, in, 1, ...), with groups (out, in / groups, 1, ...), of a
    transposed convolution (in, 1, 1, ...). Raises ValueError for weights whose layers do not run.
    """
    names = {id(p): name for name, p in params.items()}
    squares: Scores = {}
    with ExitStack() as hooks:
        for layer in net.modules():
            if isinstance(layer, PRUNABLE + TRANSPOSED) and id(own_weight(layer)) in names:
                add = partial(_add, squares, names[id(own_weight(layer))])
                hooks.callback(layer.register_forward_pre_hook(add, with_kwargs=True).remove)
        for arguments in calls:
            net(*arguments)
    if idle := [name for name in params if name not in squares]:
        why = "the layer does not run, or is no convolution or linear layer, so its inputs are unknown"
        raise ValueError(f"{', '.join(idle)}: {why}; skip it")
    return {name: squares[name] for name in params}  # in one order on all ranks


def _add(squares: Scores, name: str, layer: Any, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
    weight, x = layer.weight, args[0] if args else kwargs["input"]
    x = x.movedim(1 - weight.dim(), 0).flatten(1)  # channels are last in a linear layer, else before the positions
    totals = x.to(torch.promote_types(x.dtype, torch.float32)).square().sum(1)
    if isinstance(layer, TRANSPOSED):
        totals = totals[:, None]
    elif (groups := getattr(layer, "groups", 1)) > 1:
        totals = totals.view(groups, -1).repeat_interleave(len(weight) // groups, 0)
    else:
        totals = totals[None]
    totals = totals.view(*totals.shape, *[1] * (weight.dim() - 2))
    squares[name] = squares[name] + totals if name in squares else totals
