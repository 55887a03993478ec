"""The search space: Hydra's own sweep syntax as Optuna's distributions."""

import math
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

TAGS = {"log", "int"}


@dataclass(frozen=True)
class Space:
    """Overrides that all jobs share, and a distribution for each key that is searched over."""

    fixed: tuple[str, ...]
    searched: dict[str, BaseDistribution]

    def overrides(self, params: dict[str, Any]) -> tuple[str, ...]:
        """One job's, for the values of its trial."""
        return (*self.fixed, *(f"{key}={written(params[key])}" for key in self.searched))

    def corners(self) -> list[tuple[str, ...]]:
        """Jobs that together cover both ends of each interval and every choice."""
        ends = {key: _ends(values) for key, values in self.searched.items()}
        longest = max(len(values) for values in ends.values())
        return [self.overrides({key: v[min(i, len(v) - 1)] for key, v in ends.items()}) for i in range(longest)]

    def described(self) -> dict[str, str]:
        """By key, for comparison with the space of an earlier command."""
        return {key: distribution_to_json(values) for key, values in self.searched.items()}


def parse(arguments: list[str], parser: OverridesParser) -> Space:
    """The last of several values of a key counts. Raises ValueError for what cannot be searched over."""
    last = {override.get_key_element(): override for override in parser.parse_overrides(arguments)}
    fixed = tuple(str(o.input_line) for o in last.values() if not o.is_sweep_override())
    searched = {key: _distribution(o) for key, o in last.items() if o.is_sweep_override()}
    if not searched:
        raise ValueError("nothing to search over: give an interval or several values, as rate=interval(0.2,0.95)")
    return Space(fixed, searched)


def written(value: str | int | float) -> str:
    """As short as possible without changing the value, because it becomes part of a folder's name."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def rounded(value: Any, among: BaseDistribution) -> Any:
    """Drops digits that no result depends on: linear intervals in steps of 1/1000 to 1/10,000 of their
    width, logarithmic ones to 4 significant digits. Stays between the ends; other values are left alone.
    """
    if not isinstance(among, FloatDistribution):
        return value
    if among.step:
        short = _clean(value)
    elif among.log:
        short = float(f"{value:.4g}")
    else:
        short = round(value, 3 - math.floor(math.log10(among.high - among.low)))
    return min(max(short, among.low), among.high)


def _distribution(override: Override) -> BaseDistribution:
    value: Any = override.value()
    unknown: set[str] = getattr(value, "tags", set()) - TAGS
    if unknown:
        raise ValueError(f"{override.input_line}: tag {min(unknown)} is not one of {', '.join(sorted(TAGS))}")
    if isinstance(value, IntervalSweep):
        return _interval(override, value)
    if hasattr(value, "shuffle"):
        value.shuffle = False  # the order of choices is part of the space
    if override.is_choice_sweep():
        return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
    return _grid(override, value)


def _grid(override: Override, value: RangeSweep) -> BaseDistribution:
    """From the first to the last value of a range, which leaves out its stop."""
    steps: list[Any] = sorted(override.sweep_iterator())
    if all(isinstance(step, int) for step in steps) and len(steps) > 1:
        return IntDistribution(steps[0], steps[-1], step=abs(int(value.step)))
    steps = [x for x in (_clean(step) for step in steps) if x != value.stop]  # 0.7000000000000001 is 0.7
    if len(steps) < 2:
        raise ValueError(f"{override.input_line}: expected at least two values")
    return FloatDistribution(steps[0], steps[-1], step=abs(value.step))


def _clean(value: float) -> float:
    return float(f"{value:.12g}")


def _interval(override: Override, value: IntervalSweep) -> BaseDistribution:
    low, high, log = value.start, value.end, "log" in value.tags
    if low is None or high is None or not low < high or (log and low <= 0):
        raise ValueError(f"{override.input_line}: expected low < high" + (", both above 0" if log else ""))
    if "int" in value.tags or (isinstance(low, int) and isinstance(high, int)):
        return IntDistribution(math.ceil(low), math.floor(high), log=log)
    return FloatDistribution(low, high, log=log)


def _ends(values: BaseDistribution) -> list[Any]:
    if isinstance(values, CategoricalDistribution):
        return list(values.choices)
    assert isinstance(values, IntDistribution | FloatDistribution)
    return [values.low, values.high]
