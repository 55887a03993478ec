"""Network slimming: the scale of the norm behind a channel (Liu et al. 2017)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.types import Scores


@dataclass(frozen=True)
class BNScale(Criterion):
    """|gamma| of each batch and group norm, by the name of the norm's weight; for channels, not for weights.

    A channel with several norms, as behind a shortcut, scores their mean. Raises ValueError for a network
    without any.
    """

    of_channels: ClassVar[bool] = True

    def __call__(self, ctx: Context) -> Scores:
        scales = norm_scales(ctx.net)
        if not scales:
            raise ValueError(f"{type(ctx.net).__name__} has no norm with a scale: choose another criterion, as l2")
        return {name: scale.detach().abs() for name, scale in scales.items()}


def norm_scales(net: nn.Module) -> dict[str, nn.Parameter]:
    """The scales of batch and group norms by name: (channels,)."""
    owners = {id(m.weight) for m in net.modules() if isinstance(m, _BatchNorm | nn.GroupNorm)}
    return {name: p for name, p in net.named_parameters() if id(p) in owners}
