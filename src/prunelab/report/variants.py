"""Tells jobs of one method apart that were given other settings of it than those that were typed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from prunelab.store.job import Job
from prunelab.store.naming import variant
from prunelab.store.result import Result


def by_settings(results: Iterable[Result]) -> Iterator[Result]:
    """The results, named by the settings in which those of one variant differ: "usp (schedule.end=0.5)".

    Such come of an experiment file, or of a YAML file or a criterion that was edited between two jobs. What follows
    the rate or the seed in every job tells none apart.
    """
    alike: dict[tuple[tuple[str, ...], str], list[Result]] = {}
    for result in results:
        alike.setdefault((result.job.table, result.job.variant), []).append(result)
    for same in alike.values():
        settings = [result.job.own_settings for result in same]
        keys = [key for key in sorted(set().union(*settings)) if _tells_apart(key, [r.job for r in same], settings)]
        for result, own in zip(same, settings, strict=True):
            given = [f"{key}={own[key]}" for key in keys if key in own]
            yield (
                replace(result, title=variant(result.job.method, [*result.job.overrides, *given])) if given else result
            )


def _tells_apart(key: str, jobs: Sequence[Job], settings: Sequence[dict[str, Any]]) -> bool:
    values = [own.get(key) for own in settings]
    if len({repr(value) for value in values}) == 1:
        return False
    numbers = all(type(value) in (int, float) for value in values)
    return not numbers or values not in ([job.rate for job in jobs], [job.seed for job in jobs])
