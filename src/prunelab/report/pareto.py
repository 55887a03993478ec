"""Pareto-optimal jobs in test accuracy and cost, and the hypervolume."""

from collections.abc import Iterable, Sequence
from itertools import compress

from prunelab.store.naming import shared
from prunelab.store.result import Result

NOTE = (
    "No other job has at least this accuracy at no more than this cost; each seed is a job. This describes them on "
    "test data; to choose among them, use validation accuracy."
)


def pareto_optimal(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (accuracy, cost), whether no other point dominates it; equal points do not dominate each other."""
    order = sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][0]))
    optimal, best = [False] * len(points), (float("-inf"), 0.0)
    for i in order:
        if points[i][0] > best[0] or points[i] == best:
            optimal[i], best = True, points[i]
    return optimal


def by_macs(results: Sequence[Result]) -> list[Result]:
    """The Pareto-optimal jobs by increasing MACs; [] where all jobs have equally many."""
    if len({r.pruned.macs for r in results}) < 2:
        return []
    optimal = pareto_optimal([(r.accuracy, r.pruned.macs) for r in results])
    return sorted(compress(results, optimal), key=lambda r: r.pruned.macs)


def same_images(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Jobs by images, as accuracies compare on the same images only. Keys are suffixes of file names, "" if alone."""
    split: dict[str, list[Result]] = {}
    for result in results:
        split.setdefault(result.data["fingerprint"], []).append(result)
    names = {data: members[0].job.labels.get("data", "?") for data, members in split.items()}
    unique = len(set(names.values())) == len(names)
    if len(split) < 2:
        return {"": list(results)}
    return {f"-data={names[data] if unique else data[:8]}": members for data, members in split.items()}


def title(which: str) -> str:
    """`which` is a key of `same_images`."""
    return "Pareto front of test accuracy and MACs left" + which.replace("-", ", ")


def settings(result: Result, among: Sequence[Result]) -> str:
    """The overrides of a job besides method and rate, without those that all jobs share."""
    common = shared(r.job.overrides for r in among)
    return " ".join(o for o in result.job.overrides if o not in common and o.partition("=")[0] not in ("prune", "rate"))


def hypervolume(points: Iterable[tuple[float, float]]) -> float:
    """The area that (accuracy, cost) points dominate, as fractions, down to accuracy 0 and up to cost 1: in [0, 1],
    larger is better (Zitzler and Thiele 1998).
    """
    ordered = sorted((min(cost, 1.0), accuracy) for accuracy, cost in points)
    area, best = 0.0, 0.0
    for (cost, accuracy), (following, _) in zip(ordered, [*ordered[1:], (1.0, 0.0)], strict=True):
        best = max(best, accuracy)
        area += best * (following - cost)
    return area
