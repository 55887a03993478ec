"""Lists the studies, the experiments that have scales: what each asks, and how far it is."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from rich.console import Console, ConsoleOptions, RenderResult

from prunelab.job.command.help import title
from prunelab.job.conf import conf_dir
from prunelab.measure.terminal_table import shown, terminal_table
from prunelab.report.results import outcome
from prunelab.store.core_hours import core_hours
from prunelab.store.result import Result
from prunelab.sweep.params import at_scale, combinations, grids_of

COLUMNS = ("study", "scale", "jobs", "finished", "core-hours spent", "core-hours left")


@dataclass(frozen=True)
class Study:
    """A study at one scale, and the jobs of it that are finished below a folder of outputs."""

    name: str
    question: str
    scale: str
    jobs: int
    finished: int
    core_hours: float | None  # spent on the finished jobs; None without any, or where one does not say

    @property
    def left(self) -> float | None:
        """Core-hours of the jobs that are left, if they take as long as the finished ones; None if none can say."""
        if self.finished >= self.jobs:
            return 0.0
        return self.core_hours * (self.jobs / self.finished - 1) if self.finished and self.core_hours else None


def studies(outputs: Path) -> Iterator[Study]:
    """By name, then by scale as the file has them."""
    parser = OverridesParser.create()
    for file in sorted((conf_dir() / "experiment").glob("*.yaml")):
        sweeper: Any = OmegaConf.select(OmegaConf.load(file), "hydra.sweeper") or {}
        for scale in sweeper.get("scales", ()):
            grids = [{**at_scale(sweeper["scales"], scale), **grid} for grid in grids_of(sweeper["params"])]
            yield _study(file, scale, combinations(grids, [], parser), outputs / f"{file.stem}-{scale}")


def _study(file: Path, scale: str, jobs: Iterable[Sequence[str]], folder: Path) -> Study:
    """A job counts, once, that has the overrides of one of `jobs`, whatever its images."""
    asked = {_without_data(overrides) for overrides in jobs}
    found = [result for path in folder.glob("*/result.json") if isinstance(result := outcome(path.parent), Result)]
    ran = [max((job for job in asked if job <= frozenset(r.job.overrides)), key=len, default=None) for r in found]
    results = [result for result, job in zip(found, ran, strict=True) if job]
    return Study(file.stem, title(file), scale, len(asked), len({*ran} - {None}), core_hours(results))


def _without_data(overrides: Iterable[str]) -> frozenset[str]:
    return frozenset(override for override in overrides if not override.startswith(("data=", "data.")))


class Overview:
    """What every study asks, and a row for each of its scales."""

    def __init__(self, outputs: Path) -> None:
        self.studies = list(studies(outputs))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for name, question in {study.name: study.question for study in self.studies}.items():
            yield shown(f"{name}: {question}")
        rows = terminal_table(COLUMNS, COLUMNS[:2])
        for study in self.studies:
            numbers = (study.jobs, study.finished, _hours(study.core_hours), _hours(study.left))
            rows.add_row(*map(shown, (study.name, study.scale, *numbers)))
        yield rows


def _hours(hours: float | None) -> str:
    return "" if hours is None else f"{hours:.{1 if hours >= 1 else 2}f}"  # a study of minutes is not 0.0
