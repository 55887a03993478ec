"""Which masks does an allocation give at each of many rates? From one sort, where one order decides."""

from collections.abc import Callable

import torch
from torch import Tensor

from prunelab.core.allocation import Allocation, Global, Uniform
from prunelab.core.masks import pruned_count, refuse_nan
from prunelab.core.types import Masks, Scores

MasksAt = Callable[[float], Masks]


def masks_at(allocation: Allocation, units: Scores) -> MasksAt:
    """`rate -> allocation(units, rate)`, the same masks to the bit. Raises ValueError on NaN scores."""
    refuse_nan(units)
    if type(allocation) is Uniform:
        return _in_each(units)
    if type(allocation) is Global:
        return _in_all(allocation, units)
    # As ERK, which shares out anew at each rate: there is nothing to sort once.
    return lambda rate: allocation(units, rate)


def _in_each(units: Scores) -> MasksAt:
    places = {name: _places(score) for name, score in units.items()}

    def at(rate: float) -> Masks:
        return {name: place < _kept(place.numel(), rate) for name, place in places.items()}

    return at


def _in_all(allocation: Allocation, units: Scores) -> MasksAt:
    flat = _places(torch.cat([score.reshape(-1) for score in units.values()]))
    parts = flat.split([score.numel() for score in units.values()])
    places = {name: part.view_as(score) for (name, score), part in zip(units.items(), parts, strict=True)}
    last = max(int(place.min()) for place in parts)  # among the best of each layer

    def at(rate: float) -> Masks:
        kept = len(flat) - pruned_count(len(flat), rate)
        if kept <= last:  # a layer would be empty: the allocation spares its best unit, and says so, or refuses
            return allocation(units, rate)
        return {name: place < kept for name, place in places.items()}

    return at


def _kept(n: int, rate: float) -> int:
    return max(1, n - pruned_count(n, rate))


def _places(scores: Tensor) -> Tensor:
    """0 for the best, in the shape of `scores`; of equals the first by position is the better."""
    order = scores.reshape(-1).argsort(descending=True, stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    return places.view_as(scores)
