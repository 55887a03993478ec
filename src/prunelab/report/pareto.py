"""Which jobs does no other one surpass? The Pareto front of test accuracy and cost."""

from collections.abc import Iterable, Sequence

from prunelab.store.result import Result

NOTE = (
    "No other job is as good in both and better in one; each seed is a job. This describes these jobs on test "
    "data; to choose among them, go by validation accuracy."
)


def unsurpassed(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (accuracy, cost): whether no other point is as good in both and better in one. Equal points are
    on the front together.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][0]))
    on, best = [False] * len(points), (float("-inf"), 0.0)
    for i in order:
        if points[i][0] > best[0] or points[i] == best:
            on[i], best = True, points[i]
    return on


def by_macs(results: Sequence[Result]) -> list[Result]:
    """Those on the front, from the fewest MACs; [] when all jobs have equally many and there is no choice."""
    if len({r.pruned.macs for r in results}) < 2:
        return []
    on = unsurpassed([(r.accuracy, r.pruned.macs) for r in results])
    return sorted((r for r, is_on in zip(results, on, strict=True) if is_on), key=lambda r: r.pruned.macs)


def same_images(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Accuracies compare on the same images only. By what tells them apart in a file name: "" for one kind."""
    split: dict[str, list[Result]] = {}
    for result in results:
        split.setdefault(result.data["fingerprint"], []).append(result)
    names = {data: members[0].job.labels.get("data", "?") for data, members in split.items()}
    unique = len(set(names.values())) == len(names)
    if len(split) < 2:
        return {"": list(results)}
    return {f"-data={names[data] if unique else data[:8]}": members for data, members in split.items()}


def title(which: str) -> str:
    """`which` as `same_images` names it."""
    return "Front of test accuracy and MACs left" + which.replace("-", ", ")


def settings(result: Result, among: Sequence[Result]) -> str:
    """What it was asked besides method and rate, without what all were asked alike."""
    shared = set.intersection(*(set(r.job.overrides) for r in among))
    asked = [o for o in result.job.overrides if o not in shared and o.partition("=")[0] not in ("prune", "rate")]
    return " ".join(asked)


def hypervolume(points: Iterable[tuple[float, float]]) -> float:
    """The area that (accuracy, cost) dominate, both fractions, up to cost 1 and accuracy 0: in [0, 1], larger is better
    (Zitzler and Thiele 1998).
    """
    ordered = sorted((min(cost, 1.0), accuracy) for accuracy, cost in points)
    area, best = 0.0, 0.0
    for (cost, accuracy), (following, _) in zip(ordered, [*ordered[1:], (1.0, 0.0)], strict=True):
        best = max(best, accuracy)
        area += best * (following - cost)
    return area
