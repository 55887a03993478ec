"""How is what is masked set to 0, fast?"""

import torch
from torch import Tensor


def as_factor(param: Tensor, mask: Tensor) -> Tensor:
    """0 and 1 in the strides of `param`: in others, each product would take twice as long."""
    return torch.empty_like(param, requires_grad=False).copy_(mask)


def like(state: object, param: Tensor) -> bool:
    """Whether what an optimizer keeps has an element for each of `param`, as momentum has."""
    return isinstance(state, Tensor) and state.shape == param.shape


def multiply(tensors: list[Tensor], factors: list[Tensor]) -> None:
    """In place, all in one call."""
    if tensors:
        with torch.no_grad():
            torch._foreach_mul_(tensors, factors)
