"""Where a study came from: the command that repeats it, when its results were written, on which machine."""

import shlex
from collections.abc import Iterable, Sequence
from datetime import date
from math import prod

from prunelab.report.groups import is_named
from prunelab.report.results import InvalidRun
from prunelab.store.folder import RunDir
from prunelab.store.job import NewerSchema
from prunelab.store.result import Result

MOST = 4  # commands; a study of more was made job by job
Overrides = tuple[str, ...]


def facts(results: Sequence[Result], unusable: Iterable[InvalidRun]) -> dict[str, list[str]]:
    """By name: lines."""
    asked = [(r.job.name, r.job.arguments) for r in results] + [*_asked(unusable)]
    commands = studied([*dict.fromkeys(_named(*job) for job in asked)])
    days = sorted(date.fromtimestamp((r.folder / "result.json").stat().st_mtime) for r in results)
    machines = dict.fromkeys(r.timed_on or r.device for r in results)
    versions = dict.fromkeys(text for r in results for text in software(r))
    return {
        "command": commands or ["several: the card of each job has its own"],
        "written": [" to ".join(dict.fromkeys(f"{day:%d %B %Y}" for day in (days[0], days[-1])))],
        "machine": [*machines],
        "versions": [*versions] or ["not recorded"],
    }


def software(result: Result) -> list[str]:
    """The versions that it was measured with; then, where they were others, those of earlier steps, with the device."""
    used = (result.job.versions, *result.begun_with)
    texts = (", ".join(f"{name} {version}" for name, version in versions.items() if version) for versions in used)
    return [*dict.fromkeys(filter(None, texts))]


def studied(jobs: Sequence[Overrides]) -> list[str]:
    """The sweeps of which these jobs are all: one for each set of keys and, where that is no grid, method.

    [] where the jobs are no few grids.
    """
    alike: dict[Overrides, list[Overrides]] = {}
    for job in jobs:
        alike.setdefault(tuple(o if o.startswith("--") else o.partition("=")[0] for o in job), []).append(job)
    commands: list[str] = []
    for members in alike.values():
        whole = _sweep(members)
        parts = [whole] if whole else [_sweep(of_method) for of_method in _by_method(members)]
        if None in parts:
            return []
        commands += [part for part in parts if part]
    return commands if len(commands) <= MOST else []


def _by_method(jobs: Sequence[Overrides]) -> list[list[Overrides]]:
    split: dict[Overrides, list[Overrides]] = {}
    for job in jobs:
        split.setdefault(tuple(o for o in job if o.startswith("prune=")), []).append(job)
    return list(split.values())


def _sweep(jobs: Sequence[Overrides]) -> str | None:
    """One command, if the jobs are all combinations of the values of their keys."""
    columns = [list(dict.fromkeys(column)) for column in zip(*jobs, strict=True)]
    if prod(map(len, columns)) != len(jobs):
        return None
    joined = [",".join([first, *(o.partition("=")[2] for o in rest)]) for first, *rest in columns]
    return " ".join(["python -m train", *["-m"] * (len(jobs) > 1), *map(shlex.quote, joined)])


def _named(study: str, overrides: Overrides) -> Overrides:
    return overrides if is_named(overrides) else (*overrides, f"name={study}")


def _asked(unusable: Iterable[InvalidRun]) -> list[tuple[str, Overrides]]:
    """Of the jobs without a result that have begun: their commands were part of the study's."""
    found = []
    for run in unusable:
        try:
            job = RunDir(run.folder).job()
        except NewerSchema:
            continue
        if job:
            found.append((job.name, job.arguments))
    return found
