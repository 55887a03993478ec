"""Optimizers that hold another, as SAM and Lookahead do: the state of both is of the same parameters."""

from torch.optim import Optimizer


def with_held(optimizer: Optimizer) -> list[Optimizer]:
    """The optimizer, and those that are attributes of it, or of these."""
    held = [value for value in vars(optimizer).values() if isinstance(value, Optimizer) and value is not optimizer]
    return [optimizer, *(inner for each in held for inner in with_held(each))]
