"""Random operations that give constants, so that networks of different sizes can be compared."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

UNTAGGED = {"random", "random_", "binomial", "_sample_dirichlet"}  # draw, but PyTorch does not say so
ABOVE = 0.75  # not 1, whose logarithm is 0
MIDDLE = 33 / 64  # above 1/2, which noise around 0 subtracts; no more, as drop path compares with what it keeps
SWITCHES = {"train": False, "training": False, "dropout_p": 0.0}  # arguments by which an operation draws nothing


class WithoutChance(TorchDispatchMode):
    """Whatever draws random numbers gives the same value everywhere, as a smaller network draws other numbers.

    The value is none that hides a branch, as noise of 0 hides what it is multiplied by: noise is ABOVE standard
    deviations over its mean, a uniform number little above the middle, a whole number the second lowest, a permutation
    none. A draw with rates of its own, as of Poisson, is the rates. What may be dropped is kept: 1; but in train mode
    not what compares a uniform number with a chance to stay of MIDDLE or less. It sees what PyTorch's own functions
    draw inside, as those of dropout and attention. Generators of the network's own are not advanced.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if torch.Tag.nondeterministic_seeded not in func.tags and name not in UNTAGGED:
            return func(*args, **kwargs)
        names = [argument.name for argument in func._schema.arguments]
        kwargs = {argument: None if argument == "generator" else value for argument, value in kwargs.items()}
        if SWITCHES.keys() & set(names):
            args = [SWITCHES.get(argument, value) for argument, value in zip(names, args, strict=False)]
            return func(*args, **{argument: SWITCHES.get(argument, value) for argument, value in kwargs.items()})
        drawn = func(*args, **kwargs)  # for its shape
        if isinstance(drawn, Tensor):
            given = {argument.name: argument.default_value for argument in func._schema.arguments}
            parts = torch.view_as_real(drawn) if drawn.is_complex() else drawn
            parts.copy_(
                _constant(name.removesuffix("_"), parts, {**given, **dict(zip(names, args, strict=False)), **kwargs})
            )
        return drawn


def _constant(name: str, drawn: Tensor, given: dict[str, Any]) -> Any:
    if name.startswith(("randn", "normal")):
        value = given.get("mean", 0.0) + ABOVE * given.get("std", 1.0)
    elif name.startswith("uniform"):
        value = given["from"] + MIDDLE * (given["to"] - given["from"])
    elif name in ("rand", "rand_like"):
        value = MIDDLE
    elif name == "randperm":
        value = torch.arange(len(drawn))
    elif name.startswith(("randint", "random")):
        low, end = given.get("low", given.get("from")) or 0, given.get("high", given.get("to"))
        value = low + 1 if end is None or low + 1 < end else low
    elif name == "multinomial":
        value = 0
    elif name in ("exponential", "cauchy", "log_normal"):
        value = ABOVE
    elif name in ("poisson", "_standard_gamma"):
        value = given["self"]
    elif name == "_sample_dirichlet":
        value = given["self"] / given["self"].sum(-1, keepdim=True)
    else:
        value = 1
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=drawn.dtype)
