"""Optimizers that hold another, as SAM and Lookahead do: the state of both is of the same parameters."""

from torch.optim import Optimizer


def with_held(optimizer: Optimizer) -> list[Optimizer]:
    """The optimizer, and those that are attributes of it, or of these; each once."""
    found, left = dict[int, Optimizer](), [optimizer]
    while left:
        each = left.pop()
        if id(each) not in found:
            found[id(each)] = each
            left += [value for value in vars(each).values() if isinstance(value, Optimizer)]
    return list(found.values())
