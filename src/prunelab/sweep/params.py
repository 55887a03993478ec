"""What the file of an experiment sweeps over: its sweeps, its scales, and what a command sets in their place."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser


def grids_of(params: Any) -> Sequence[Mapping[str, Any]]:
    """Sweeps as an experiment lists them: several, one, or none but that of the command line."""
    return params if isinstance(params, Sequence) else [params or {}]


def at_scale(scales: Mapping[str, Mapping[str, Any]] | None, scale: str) -> Mapping[str, Any]:
    """The values of a scale, where an experiment has any. Raises ValueError for one that it has not."""
    if scales is None:
        return {}
    if scale not in scales:
        raise ValueError(f"scale={scale}: choose from {', '.join(scales)}")
    return scales[scale]


def combinations(
    grids: Iterable[Mapping[str, Any]], arguments: list[str], parser: OverridesParser
) -> list[tuple[str, ...]]:
    """The overrides of each job, once. What `arguments` set goes before the grids."""
    typed = {o.key_or_group: str(o.input_line).partition("=")[2] for o in parser.parse_overrides(arguments)}
    jobs: dict[tuple[str, ...], None] = {}
    for grid in grids:
        values = [f"{key}={value}" for key, value in remaining(grid, typed).items()]
        lists = BasicSweeper.split_arguments(parser.parse_overrides([*values, *arguments]), None)[0]
        jobs |= dict.fromkeys(map(tuple, lists))
    return list(jobs)


def remaining(grid: Mapping[str, Any], typed: Mapping[str, str]) -> dict[str, Any]:
    """What is left of a sweep beside what a command sets, by key or group."""
    return {k: value for k, value in grid.items() if k not in typed and not _inside_replaced(k, grid, typed)}


def _inside_replaced(key: str, grid: Mapping[str, Any], typed: Mapping[str, str]) -> bool:
    """Whether it is a setting inside of what `typed` replaces: another `data` has no use for `data.train`."""
    group = key.partition(".")[0]
    return key != group in grid.keys() & typed and not {*typed[group].split(",")} <= {*str(grid[group]).split(",")}
