"""Two studies or two jobs side by side, for `prunelab compare`: their configurations, then results seed by seed.

Imports no torch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from prunelab.measure.terminal_table import shown, terminal_table
from prunelab.report.confidence import interval
from prunelab.report.results import InvalidRun, NothingToReport, load, outcome
from prunelab.report.tables.columns import signed
from prunelab.store.result import Result

SWEPT = ("prune", "rate", "rates", "seed")  # keys that pair jobs, with what is below them
Cell = tuple[str, float, int]  # method, rate, seed
Pair = tuple[Result, Result]
Key = Callable[[Result], Cell]


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
            jobs = f"{len(side.results)} job{'s' * (len(side.results) != 1)}"
            yield shown(f"{letter}: {side.name} ({jobs}{left_out})")
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
        if len({r.data["fingerprint"] for pair in self.pairs for r in pair}) > 1:
            yield shown("A and B did not use the same images: their data fingerprints differ.", "yellow")


def compare(a: Path, b: Path) -> Comparison:
    """Jobs are paired by method, rate and seed; two single jobs are a pair whatever they are.

    Settings of a method ("usp (criterion=taylor)") count where that finds partners.

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
    return _paired(a, b, lambda r: (r.method, r.job.rate, r.job.seed)) or _paired(
        a, b, lambda r: (r.job.method, r.job.rate, r.job.seed)
    )


def _paired(a: Side, b: Side, key: Key) -> tuple[Pair, ...]:
    before, after = _cells(a, key), _cells(b, key)
    return tuple((before[cell], after[cell]) for cell in sorted(before.keys() & after.keys()))


def _cells(side: Side, key: Key) -> dict[Cell, Result]:
    """What differs in more than its cell must not be paired by chance."""
    cells: dict[Cell, Result] = {}
    for result in side.results:
        if (first := cells.setdefault(key(result), result)) is not result:
            method, rate, seed = key(result)
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
    sides = [[{**r.job.labels, **r.job.settings} for r in side] for side in (a, b)]
    single = len(a) == len(b) == 1
    methods = [" ".join(dict.fromkeys(r.method for r in side)) for side in (a, b)]
    rows = [("prune", methods[0], methods[1])] if methods[0] != methods[1] else []
    keys = dict.fromkeys(key for side in sides for values in side for key in values)
    for key in sorted(keys, key=lambda key: "." in key):
        root = key.partition(".")[0]
        if any(row[0] == root for row in rows) or (root in SWEPT and not single):
            continue
        texts = [" | ".join(sorted({values.get(key, "-") for values in side})) for side in sides]
        if texts[0] != texts[1]:
            rows.append((key, texts[0], texts[1]))
    return rows


def both(a: str, b: str) -> str:
    return a if a == b else f"{a} / {b}"


def mean(differences: Sequence[float]) -> str:
    """The mean difference in words, with its interval where there are two or more."""
    ends = interval(differences)
    spread = f"95 % interval {signed(ends[0])} to {signed(ends[1])}" if ends else "so no interval"
    return f"{signed(fmean(differences))} points (n = {len(differences)}, {spread})"
