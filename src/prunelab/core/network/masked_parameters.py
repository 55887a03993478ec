"""The parameters of a network under masks: zeros in them, in their gradients and in the optimizer's state."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from prunelab.core.network.optimizers import with_held
from prunelab.core.types import Masks, Scores


class MaskedParameters:
    """`params` by name, of which some have a mask; all tensors of one kind are multiplied in one call."""

    def __init__(self, params: Mapping[str, nn.Parameter]) -> None:
        self.params = params
        self.masks: Masks = {}
        self._factors: dict[str, Tensor] = {}  # masks as 0 and 1 in the parameter's own type and place

    @classmethod
    def of(cls, net: nn.Module, masks: Masks) -> Self:
        masked = cls(dict(net.named_parameters()))
        masked.adopt(masks)
        return masked

    def adopt(self, masks: Masks) -> None:
        self.masks, self._factors = masks, {}

    def zero(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Zeroes masked weights and, given the optimizer, its state for them (momentum, Adam's moments)."""
        optimizers = with_held(optimizer) if optimizer is not None else []
        tensors: list[Tensor] = []
        factors: list[Tensor] = []
        for param, factor in self._pairs():
            states = [s for each in optimizers for s in each.state.get(param, {}).values()]
            same = [param, *(s for s in states if isinstance(s, Tensor) and s.shape == param.shape)]
            tensors += same
            factors += [factor] * len(same)
        _multiply(tensors, factors)

    def are_zero(self) -> bool:
        """Whether all masked weights are 0; not where one is missing or has another shape."""
        there = all(name in self.params and self.params[name].shape == mask.shape for name, mask in self.masks.items())
        return there and not self.are_revived()

    def are_revived(self) -> bool:
        """Whether a masked weight that is there, in the shape of its mask, is not 0."""
        return any(
            param.detach().masked_fill(mask.to(param.device), 0).any()
            for name, mask in self.masks.items()
            if (param := self.params.get(name)) is not None and param.shape == mask.shape
        )

    def zero_gradients(self) -> None:
        """Zeroes the gradients of masked weights, so that clipping by norm counts the others only."""
        pairs = [(param.grad, factor) for param, factor in self._pairs() if param.grad is not None]
        _multiply([grad for grad, _ in pairs], [factor for _, factor in pairs])

    def _pairs(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Masked parameters and their factors, made anew where a parameter has moved to another device."""
        pairs = []
        for name, mask in self.masks.items():
            param = self.params[name]
            if name not in self._factors or self._factors[name].device != param.device:
                # In the strides of the parameter; with other strides each product takes twice as long.
                self._factors[name] = torch.empty_like(param, requires_grad=False).copy_(mask)
            pairs.append((param, self._factors[name]))
        return pairs


def _multiply(tensors: list[Tensor], factors: list[Tensor]) -> None:
    if tensors:
        with torch.no_grad():
            torch._foreach_mul_(tensors, factors)


def check_masks(masks: Masks, units: Scores) -> None:
    """Raises ValueError for a saved mask by unit that does not fit the units of a network."""
    for name, kept in masks.items():
        if name not in units or units[name].shape != kept.shape:
            shape = tuple(units[name].shape) if name in units else "no such units, or frozen"
            raise ValueError(f"mask {name} {tuple(kept.shape)} does not fit this network: {shape}")
