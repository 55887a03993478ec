"""Which parts of a method go together."""

from collections.abc import Sequence

from prunelab.core.allocation import Allocation
from prunelab.core.budget import Budget
from prunelab.core.criterion import Criterion
from prunelab.core.granularity import Granularity
from prunelab.core.schedule import Schedule


def check_kinds(
    criterion: Criterion,
    granularity: Granularity,
    allocation: Allocation,
    schedule: Schedule,
    skip: Sequence[str],
    budget: Budget | None,
) -> None:
    """Raises TypeError, with the remedy, for a part in the place of another, a class in that of an object, one name."""
    parts = {"criterion": criterion, "granularity": granularity, "allocation": allocation, "schedule": schedule}
    for (place, part), kind in zip(parts.items(), (Criterion, Granularity, Allocation, Schedule), strict=True):
        if isinstance(part, type):
            raise TypeError(f"{place}={part.__name__}: it is a class, expected an object: write {part.__name__}(...)")
        if not isinstance(part, kind):
            raise TypeError(f"{place}={part!r}: expected a {kind.__name__}, of prunelab.core or prunelab.criteria")
    if budget is not None and (isinstance(budget, type) or not hasattr(budget, "bind")):
        raise TypeError(f"budget={budget!r}: expected an object, such as Budget(of='macs')")
    if isinstance(skip, str):
        raise TypeError(f"skip={skip!r}: expected a list of patterns: write skip=[{skip!r}]")


def check_parts(
    criteria: Sequence[Criterion], granularity: Granularity, allocation: Allocation, regrows: bool, passes: int
) -> None:
    """`criteria`: the method's own first. Raises ValueError, with the remedy, for parts that do not fit together."""
    if passes < 1:
        raise ValueError(f"passes={passes}: expected at least 1")
    for criterion in criteria:
        least = min(1, type(criterion).batches)  # 0 where it uses no training data
        if not isinstance(criterion.batches, int) or criterion.batches < least:
            kind = type(criterion).__name__
            raise ValueError(f"{kind}: batches={criterion.batches}: expected a whole number of at least {least}")
    if regrows and (granularity.in_groups or not granularity.single_weights):
        raise ValueError("regrow: only single weights come back from 0; use prune/granularity=weight")
    if criteria[0].of_channels and granularity.single_weights:
        kind = type(criteria[0]).__name__
        raise ValueError(f"{kind} scores channels, not single weights: use prune/granularity=filter")
    if granularity.in_groups and not allocation.even:
        kind = type(allocation).__name__
        raise ValueError(f"N:M takes as much from every group, {kind} does not: use prune/allocation=uniform")
