"""Holds the zeros that are in a network already."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from prunelab.core.allocation import Allocation, refuse_nan
from prunelab.core.types import Masks, Scores


@dataclass(frozen=True)
class Held(Allocation):
    """Removes every unit that scores 0, at any `rate` above 0: of single weights scored by magnitude, the zeros.

    For networks that were pruned before; a layer of zeros stays one. Raises ValueError where there is nothing to hold.

    >>> from torch import tensor
    >>> Held()({"a": tensor([0.0, 0.3, 0.0])}, 0.5)
    {'a': tensor([False,  True, False])}
    """

    own_rates: ClassVar[bool] = True
    as_found: ClassVar[bool] = True

    def __call__(self, units: Scores, rate: float) -> Masks:
        refuse_nan(units)
        keep = {name: (score != 0) & (score > -torch.inf) for name, score in units.items()}
        if all(mask.all() for mask in keep.values()):
            raise ValueError("no weight is 0, there is nothing to hold: start from a pruned network, pretrained=PATH")
        return keep
