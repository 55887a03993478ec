"""Plans of what surgery removes, as JSON: enough to repeat it on another copy of the network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """The kept indices of parameters and buffers, and what replaces removed blocks."""

    keep: Mapping[tuple[str, int], Tensor] = field(default_factory=dict)  # (tensor, axis) -> kept indices, ascending
    pads: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # ConstantPad modules -> their new padding
    blocks: Mapping[str, str] = field(default_factory=dict)  # removed modules -> "Identity" or "ReLU"
    # (module, attribute, or attribute.index where it is a tuple) -> the number it gets
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.keep or self.pads or self.blocks or self.counts)

    def below(self, prefix: str) -> "Plan":
        """The same plan for the submodule `prefix`, which must contain all of it."""
        names = [*(name for name, _ in self.keep), *self.pads, *self.blocks, *(f"{m}." for m, _ in self.counts)]
        if outside := [name for name in names if not name.startswith(f"{prefix}.")]:
            raise ValueError(f"{outside[0]} is not part of {prefix}")
        cut = len(prefix) + 1
        return Plan(
            {(name[cut:], axis): kept for (name, axis), kept in self.keep.items()},
            {name[cut:]: padding for name, padding in self.pads.items()},
            {name[cut:]: stand_in for name, stand_in in self.blocks.items()},
            {(module[cut:], name): count for (module, name), count in self.counts.items()},
        )

    def then(self, later: "Plan") -> "Plan":
        """Both as one plan; `later` has indices into what this one leaves."""
        keep = dict(self.keep)
        for place, kept in later.keep.items():
            keep[place] = keep[place][kept] if place in keep else kept
        inside = tuple(f"{path}." for path in later.blocks)
        return Plan(
            keep,
            {**self.pads, **later.pads},
            {**{path: s for path, s in self.blocks.items() if not path.startswith(inside)}, **later.blocks},
            {**self.counts, **later.counts},
        )

    def to_json(self) -> dict[str, Any]:
        keep: dict[str, dict[str, list[int]]] = {}
        for (name, axis), kept in self.keep.items():
            keep.setdefault(name, {})[str(axis)] = kept.tolist()
        plan = {"keep": keep, "pads": {m: list(p) for m, p in self.pads.items()}, "blocks": dict(self.blocks)}
        counts: dict[str, dict[str, int]] = {}
        for (module, name), count in self.counts.items():
            counts.setdefault(module, {})[name] = count
        return {**plan, "counts": counts} if counts else plan

    @classmethod
    def from_json(cls, plan: Mapping[str, Any]) -> Self:
        """Raises ValueError for invalid JSON."""
        try:
            return cls(
                {
                    (str(name), int(axis)): torch.tensor(_integers(kept), dtype=torch.long)
                    for name, axes in plan["keep"].items()
                    for axis, kept in axes.items()
                },
                {str(module): tuple(_integers(padding)) for module, padding in plan["pads"].items()},
                {str(module): str(stand_in) for module, stand_in in plan["blocks"].items()},
                {
                    (str(module), str(name)): _integers([count])[0]
                    for module, counts in plan.get("counts", {}).items()
                    for name, count in counts.items()
                },
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a plan of what is kept: {error!r}") from None


def _integers(values: Any) -> list[int]:
    if not isinstance(values, list) or not all(type(v) is int for v in values):
        raise TypeError(f"expected a list of integers, not {values!r:.80}")
    return values
