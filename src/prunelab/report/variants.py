"""Tells jobs of one method apart that were given other settings of it than those that were typed."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from prunelab.store.identity import flat
from prunelab.store.job import Job
from prunelab.store.naming import variant
from prunelab.store.result import Result


def by_settings(results: Iterable[Result]) -> Iterator[Result]:
    """The results, named by the settings in which those of one variant differ: "usp (schedule.end=0.5)".

    Such come of an experiment file, or of a YAML file or a criterion that was edited between two jobs. What follows
    the rate, the seed or a setting outside of `prune` tells none apart.
    """
    alike: dict[tuple[tuple[str, ...], str], list[Result]] = {}
    for result in results:
        alike.setdefault((result.job.table, result.job.variant), []).append(result)
    for same in alike.values():
        settings = [result.job.own_settings for result in same]
        keys = _telling([result.job for result in same], settings)
        for result, own in zip(same, settings, strict=True):
            given = [f"{key}={own[key]}" for key in keys if key in own and not _is_its_seed(key, own[key], result.job)]
            name = variant(result.job.method, [*result.job.overrides, *given])
            yield replace(result, title=name) if given else result


def _telling(jobs: list[Job], settings: list[dict[str, Any]]) -> list[str]:
    columns = {key: [repr(own.get(key)) for own in settings] for key in sorted(set().union(*settings))}
    followed = [values for key, values in columns.items() if not key.startswith("prune")]
    followed += [[repr(flat({of: getattr(job, of)})[of]) for job in jobs] for of in ("rate", "seed")]
    differing = [key for key, values in columns.items() if len(set(values)) > 1]
    return [key for key in differing if not (key.startswith("prune") and columns[key] in followed)]


def _is_its_seed(key: str, value: Any, job: Job) -> bool:
    return key.endswith(".seed") and value == job.seed
