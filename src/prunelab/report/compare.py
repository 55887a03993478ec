"""Two studies or two jobs side by side, for `prunelab compare`: their configurations, then results seed by seed.

Imports no torch.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from prunelab.measure.terminal_table import shown, terminal_table
from prunelab.report.confidence import interval
from prunelab.report.groups import counted
from prunelab.report.results import InvalidRun, NothingToReport, load, outcome
from prunelab.report.tables.columns import signed
from prunelab.store.result import Result

PAIRED = ("rate", "rates", "seed")  # what pairs jobs besides the method
Cell = tuple[str, float, int]  # method, rate, seed
Pair = tuple[Result, Result]
Cells = dict[Cell, Result]


@dataclass(frozen=True)
class Side:
    """One of the two: a study, or a single job."""

    name: str
    results: tuple[Result, ...]
    excluded: int  # jobs of the study without a valid result


@dataclass(frozen=True)
class Comparison:
    """Printable with rich. `a` and `b` name the columns; differences are `b` minus `a`, in points."""

    a: Side
    b: Side
    pairs: tuple[Pair, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for letter, side in (("A", self.a), ("B", self.b)):
            left_out = f", {side.excluded} excluded" if side.excluded else ""
            yield shown(f"{letter}: {side.name} ({counted([len(side.results)], 'job')}{left_out})")
        yield Text()
        yield from self._configuration()
        yield Text()
        yield from self._results()

    def _configuration(self) -> Iterator[Table | Text]:
        rows = differing(self.a.results, self.b.results)
        if not rows:
            yield shown("The configurations are the same.")
            return
        table = terminal_table(("differs", "A", "B"), ("differs", "A", "B"))
        for row in rows:
            table.add_row(*map(shown, row))
        yield table

    def _results(self) -> Iterator[Table | Text]:
        table = terminal_table(("method", "rate", "seed", "A (%)", "B (%)", "change (points)"), ("method",))
        changes: dict[str, list[float]] = {}
        for a, b in self.pairs:
            method, rate = both(a.method, b.method), both(f"{a.job.rate:g}", f"{b.job.rate:g}")
            before, after = 100 * a.accuracy, 100 * b.accuracy
            seed = both(str(a.job.seed), str(b.job.seed))
            table.add_row(shown(method), rate, seed, f"{before:.2f}", f"{after:.2f}", signed(after - before))
            changes.setdefault(f"{method} at rate {rate}", []).append(after - before)
        yield table
        yield Text()
        yield from (shown(f"{cell}: {mean(values)}") for cell, values in changes.items())
        alone = [len(side.results) - len(self.pairs) for side in (self.a, self.b)]
        if any(alone):
            yield shown(f"Without a partner of the same method, rate and seed: {alone[0]} of A, {alone[1]} of B.")
        if any(a.data["fingerprint"] != b.data["fingerprint"] for a, b in self.pairs):
            yield shown("A and B did not use the same images: their data fingerprints differ.", "yellow")


def compare(a: Path, b: Path) -> Comparison:
    """Jobs are paired by method, rate and seed; two single jobs are a pair whatever they are.

    Settings of a method ("usp (criterion=taylor)") count first; jobs left over are paired without them, where each
    study has one.

    Raises NothingToReport where a folder has no result, where a study has two jobs for one cell, or no job of one
    study has its partner in the other.
    """
    sides = _side(a), _side(b)
    pairs = _pairs(*sides)
    if not pairs:
        raise NothingToReport(f"{a} and {b}: no job of one has the method, rate and seed of a job of the other")
    return Comparison(*sides, pairs)


def _side(folder: Path) -> Side:
    if not (folder / "result.json").exists():
        results, excluded = load(folder)
        return Side(str(folder), tuple(results), len(excluded))
    job = outcome(folder)
    if isinstance(job, InvalidRun):
        raise NothingToReport(f"{folder}: {job.reason}")
    return Side(str(folder), (job,), 0)


def _pairs(a: Side, b: Side) -> tuple[Pair, ...]:
    if len(a.results) == len(b.results) == 1:
        return ((a.results[0], b.results[0]),)
    before, after = _cells(a), _cells(b)
    whole = before.keys() & after.keys()
    rest = [_alone(r for cell, r in cells.items() if cell not in whole) for cells in (before, after)]
    return _paired(before, after) + _paired(*rest)


def _paired(before: Cells, after: Cells) -> tuple[Pair, ...]:
    return tuple((before[cell], after[cell]) for cell in sorted(before.keys() & after.keys()))


def _alone(results: Iterable[Result]) -> Cells:
    """By method without its settings, rate and seed; without those that several share."""
    cells: dict[Cell, list[Result]] = {}
    for result in results:
        cells.setdefault((result.job.method, result.job.rate, result.job.seed), []).append(result)
    return {cell: members[0] for cell, members in cells.items() if len(members) == 1}


def _cells(side: Side) -> Cells:
    """What differs in more than its cell must not be paired by chance."""
    cells: Cells = {}
    for result in side.results:
        method, rate, seed = cell = (result.method, result.job.rate, result.job.seed)
        if (first := cells.setdefault(cell, result)) is not result:
            raise NothingToReport(
                f"{side.name}: several jobs are {method} at rate {rate:g}, seed {seed}: compare two jobs, such as "
                f"{first.folder.name} and {result.folder.name}"
            )
    return cells


def differing(a: Sequence[Result], b: Sequence[Result]) -> list[tuple[str, str, str]]:
    """Key and both values, where the values that the jobs of `a` have are not those of `b`; "-" for none.

    Choices first ("model"); what lies below a choice that differs adds nothing. Between studies, keys that pair jobs
    are left out.
    """
    sides = [[{**r.job.labels, **r.job.settings, **r.job.code} for r in side] for side in (a, b)]
    single = len(a) == len(b) == 1
    methods = [" ".join(dict.fromkeys(r.method for r in side)) for side in (a, b)]
    rows = [("prune", methods[0], methods[1])] if methods[0] != methods[1] else []
    keys = dict.fromkeys(key for side in sides for values in side for key in values)
    for key in sorted(keys, key=lambda key: "." in key):
        if any(row[0] == key.partition(".")[0] for row in rows) or (_pairs_jobs(key) and not single):
            continue
        texts = [" | ".join(sorted({values.get(key, "-") for values in side})) for side in sides]
        if texts[0] != texts[1]:
            rows.append((key, texts[0], texts[1]))
    return rows


def _pairs_jobs(key: str) -> bool:
    """As rate, and prune.pruning.pruner.schedule.rate; model.rate is a setting like any other."""
    root, last = key.partition(".")[0], key.rpartition(".")[2]
    return root in PAIRED or (root == "prune" and last in ("prune", *PAIRED))


def both(a: str, b: str) -> str:
    return a if a == b else f"{a} / {b}"


def mean(differences: Sequence[float]) -> str:
    """The mean difference in words, with its interval where there are two or more."""
    ends = interval(differences)
    spread = f"95 % interval {signed(ends[0])} to {signed(ends[1])}" if ends else "so no interval"
    return f"{signed(fmean(differences))} points (n = {len(differences)}, {spread})"
