"""Who pays: how many units does each layer lose?"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

import torch
from torch import Tensor

from prunelab.core.masks import keep_top, pruned_count
from prunelab.core.types import Masks, Scores

log = logging.getLogger(__name__)


class Allocation(ABC):
    """Chooses the units to keep. Every layer keeps at least its best unit: a layer without any is a dead net."""

    @abstractmethod
    def __call__(self, units: Scores, rate: float) -> Masks:
        """Bool masks in the shapes of `units`, with `rate` of the units False. Raises ValueError on NaN scores."""


@dataclass(frozen=True)
class Uniform(Allocation):
    """The same rate in every layer: `round(rate * n)` of its n units."""

    def __call__(self, units: Scores, rate: float) -> Masks:
        return {name: _keep_in_layer(name, score, rate) for name, score in units.items()}


@dataclass(frozen=True)
class Explicit(Allocation):
    """A rate of its own for each layer that matches a pattern of `rates`; `rate` for the others.

    While a schedule ramps up to `target`, the layers' own rates ramp up with it; at 0 nothing is pruned anywhere.
    """

    rates: Mapping[str, float]
    target: float

    def __call__(self, units: Scores, rate: float) -> Masks:
        for pattern in self.rates:
            if not any(fnmatch(name, pattern) for name in units):
                raise ValueError(f"rates[{pattern!r}] matches no layer; there are: {', '.join(units)}")
        share = rate / self.target if self.target else 0.0
        own = {
            name: next((r * share for pattern, r in self.rates.items() if fnmatch(name, pattern)), rate)
            for name in units
        }
        return {name: _keep_in_layer(name, score, own[name]) for name, score in units.items()}


@dataclass(frozen=True)
class Global(Allocation):
    """One threshold for all layers: `round(rate * n)` of all n units, wherever they are."""

    def __call__(self, units: Scores, rate: float) -> Masks:
        flat = torch.cat([score.reshape(-1).float() for score in units.values()])
        k = flat.numel() - pruned_count(flat.numel(), rate)
        if k < len(units):
            raise ValueError(f"rate={rate}: would keep {k} units in {len(units)} layers; lower the rate")
        _refuse_nan(units)
        keep = _split(keep_top(flat, k), units)
        if empty := [name for name, mask in keep.items() if not mask.any()]:
            log.warning("a global threshold at rate=%g empties %s: its best unit is kept", rate, ", ".join(empty))
            spared = {n: _spare_best(s) if n in empty else s.float() for n, s in units.items()}
            keep = _split(keep_top(torch.cat([s.reshape(-1) for s in spared.values()]), k), units)
        return keep


def _keep_in_layer(name: str, score: Tensor, rate: float) -> Tensor:
    _refuse_nan({name: score})
    k = score.numel() - pruned_count(score.numel(), rate)
    if k < 1:
        log.warning("%s: rate=%g would remove all its %d units; its best is kept", name, rate, score.numel())
    return keep_top(score, max(k, 1))


def _refuse_nan(units: Scores) -> None:
    for name, score in units.items():
        if score.isnan().any():
            raise ValueError(f"{name}: its scores contain NaN; has training diverged? lower the learning rate")


def _spare_best(score: Tensor) -> Tensor:
    best = score.reshape(-1).float().argmax()
    return score.reshape(-1).float().index_fill(0, best, torch.inf).view_as(score)


def _split(flat: Tensor, like: Scores) -> Masks:
    parts = flat.split([score.numel() for score in like.values()])
    return {name: part.view_as(score) for (name, score), part in zip(like.items(), parts, strict=True)}
