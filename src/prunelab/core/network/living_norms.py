"""Norms over channels of a masked network: statistics over the living channels, as the small network has them.

A batch norm treats each channel alone. LayerNorm, RMSNorm and a GroupNorm of one group do not: with the masked zeros
among their statistics, a masked network would compute what no small network does.
"""

import functools
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from prunelab.core.types import Masks

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)  # the last with one group, over all positions too


class LivingNorm(nn.Module):
    """Mixed into the class of a norm while some of its channels are masked."""

    plain: ClassVar[type[nn.Module]]  # its own class
    weight: nn.Parameter
    bias: nn.Parameter | None
    eps: float | None
    # Attributes, not buffers: state dicts, snapshots and averages stay those of the plain norm.
    living: Tensor  # (channels,), bool
    axis: int  # of channels in the input

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        form = [-1 if i == self.axis % x.dim() else 1 for i in range(x.dim())]
        living, weight = self.living.to(x.device).view(form), self.weight.view(form)
        over = tuple(range(1, x.dim())) if isinstance(self, nn.GroupNorm) else (self.axis % x.dim(),)
        count = living.sum() * math.prod(x.shape[axis] for axis in over) // len(self.living)
        if centred := not isinstance(self, nn.RMSNorm):
            wide = wide - (wide * living).sum(over, keepdim=True) / count
        wide = wide * living
        eps: Any = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        normed = wide * (wide.square().sum(over, keepdim=True) / count + eps).rsqrt() * weight
        if centred and self.bias is not None:
            normed = normed + self.bias.view(form)
        # On GPUs autocast runs norms in float32.
        wider = x.device.type == "cuda" and torch.is_autocast_enabled("cuda")
        return normed if wider else normed.to(x.dtype)

    def _get_name(self) -> str:
        return self.plain.__name__

    def __reduce_ex__(self, protocol: Any) -> Any:
        """For copies and pickles: its class has no name in a module."""
        state = {key: value for key, value in vars(self).items() if key not in ("living", "axis")}
        hooks = {key: hook for key, hook in self._forward_pre_hooks.items() if hook is not _in_the_open}
        return _rebuilt, (self.plain, {**state, "_forward_pre_hooks": OrderedDict(hooks)}, self.living, self.axis)


def _rebuilt(plain: type[nn.Module], state: dict[str, Any], living: Tensor, axis: int) -> nn.Module:
    norm = plain.__new__(plain)
    vars(norm).update(state)
    _learn(norm, living, axis)
    return norm


@functools.cache  # one class a kind: torch.compile compiles anew for each
def _living(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"Living{kind.__name__}", (LivingNorm, kind), {"plain": kind})


def take_notice(net: nn.Module, axes: Mapping[str, int], masks: Masks) -> None:
    """Norms of `net` take their statistics over the channels that `masks` leave them, or over all.

    `axes`: by the name of a norm's scale, the axis of channels in its input. Parameters stay as they are. The class of
    a norm changes in place, which torch.compile notices.
    """
    for name, axis in axes.items():
        norm, mask = net.get_submodule(name.rpartition(".")[0]), masks.get(name)
        forget(norm)
        if mask is not None and not mask.all():
            _learn(norm, mask, axis)
    if axes and masks:
        call_layers(net)


def call_layers(net: nn.Module) -> None:
    """Keeps nn.TransformerEncoder from nested tensors, which only the kernels of its uncut layers take."""
    for module in net.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False


def _learn(norm: nn.Module, living: Tensor, axis: int) -> None:
    norm.__class__ = _living(type(norm))  # type: ignore[arg-type]
    norm.living, norm.axis = living, axis  # type: ignore[assignment]
    norm.register_forward_pre_hook(_in_the_open)


def forget(module: nn.Module) -> None:
    """The norm as it was, over all channels; does nothing to other modules."""
    if isinstance(module, LivingNorm):
        for key in [key for key, hook in module._forward_pre_hooks.items() if hook is _in_the_open]:
            del module._forward_pre_hooks[key]
        del module.living, module.axis
        module.__class__ = module.plain  # type: ignore[assignment]


def refuse_living(net: nn.Module) -> None:
    """Raises ValueError for norms that were loaded with some channels masked: in training they counted the others only.

    To be called before `take_notice`.
    """
    for path, norm in net.named_modules():
        over_channels = isinstance(norm, NORMS) and getattr(norm, "num_groups", 1) == 1 and norm.weight is not None
        if over_channels and 0 < norm.weight.count_nonzero() < norm.weight.numel():
            raise ValueError(
                f"{path} counts only channels that are not masked, and in this checkpoint none is removed yet: "
                "finish its training first"
            )


@contextmanager
def plain_norms(net: nn.Module) -> Iterator[None]:
    """All norms as they were, for the length of a block."""
    axes = [(module, module.living, module.axis) for module in net.modules() if isinstance(module, LivingNorm)]
    for module, *_ in axes:
        forget(module)
    try:
        yield
    finally:
        for module, living, axis in axes:
            _learn(module, living, axis)


def _in_the_open(module: nn.Module, args: Any) -> None:
    """Does nothing: because of it nn.TransformerEncoderLayer calls its norms, and no kernel that reads their scales."""
