"""Random operations that give constants, so that networks of different sizes can be compared."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

UNTAGGED = {"random", "random_", "binomial", "_sample_dirichlet"}  # draw, but PyTorch does not say so
SWITCHES = {"train": False, "training": False, "dropout_p": 0.0}  # arguments by which an operation draws nothing


class WithoutChance(TorchDispatchMode):
    """Whatever draws random numbers gives the same value everywhere, as a smaller network draws other numbers.

    Noise is its mean, a uniform number the middle of its range, a whole number the lowest, a permutation none; draws
    from other distributions are 1: what may be dropped is kept. It sees what PyTorch's own functions draw inside, as
    those of dropout and attention. Generators of the network's own are not advanced.
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
            drawn.copy_(
                _constant(name.removesuffix("_"), drawn, {**given, **dict(zip(names, args, strict=False)), **kwargs})
            )
        return drawn


def _constant(name: str, drawn: Tensor, given: dict[str, Any]) -> Any:
    if name.startswith(("randn", "normal")):
        value = given.get("mean", 0.0)
    elif name.startswith("uniform"):
        value = (given["from"] + given["to"]) / 2
    elif name in ("rand", "rand_like"):
        value = 0.5
    elif name == "randperm":
        value = torch.arange(len(drawn))
    elif name.startswith(("randint", "random", "multinomial")):
        value = given.get("low", given.get("from")) or 0
    else:
        value = 1
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=drawn.dtype)
