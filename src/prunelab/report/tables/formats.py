"""How are tables of results written in a file: for a README, for another program?"""

import csv
import io
from collections.abc import Callable, Iterable, Sequence

from prunelab.report import pareto as front
from prunelab.report.groups import Group
from prunelab.report.results import InvalidRun
from prunelab.report.tables.columns import KEYS, VALUES, left
from prunelab.report.tables.table import Row
from prunelab.store.result import Result

Entry = tuple[Group, list[Row]]  # a group and its table

CSV: dict[str, Callable[[Row], object]] = {
    "method": lambda r: r.method,
    "rate": lambda r: _plain(r.rate),
    "n": lambda r: len(r.seeds),
    "seeds": lambda r: " ".join(map(str, r.seeds)),
    "sparsity_attained": lambda r: _plain(r.attained),
    "test_accuracy_percent": lambda r: _plain(r.accuracy),
    "test_accuracy_std": lambda r: _plain(r.std),
    "test_accuracy_lower": lambda r: _plain(r.interval[0] if r.interval else None),
    "test_accuracy_upper": lambda r: _plain(r.interval[1] if r.interval else None),
    "change_points": lambda r: _plain(r.change),
    "change_n": lambda r: r.paired,
    "nonzero_params": lambda r: _plain(r.nonzero),
    "dense_params": lambda r: _plain(r.params),
    "macs": lambda r: _plain(r.macs),
    "dense_macs": lambda r: _plain(r.dense_macs),
    "bops": lambda r: _plain(r.bops),
    "dense_bops": lambda r: _plain(r.dense_bops),
    "file_bytes": lambda r: _plain(r.file_bytes),
    "dense_file_bytes": lambda r: _plain(r.dense_file_bytes),
    "latency_of_dense": lambda r: _plain(r.latency),
    "score": lambda r: _plain(r.score),
    "seconds": lambda r: _plain(r.seconds),
    "seconds_per_epoch": lambda r: _plain(r.seconds_per_epoch),
}


FRONT: dict[str, Callable[[Result], str]] = {
    "method": lambda r: r.method,
    "rate": lambda r: f"{r.job.rate:g}",
    "test accuracy (%)": lambda r: f"{100 * r.accuracy:.2f}",
    "MACs left": lambda r: left(r.pruned.macs, r.dense.macs),
    "parameters left": lambda r: left(r.pruned.nonzero, r.dense.params),
}
WORDS = ("method", "settings")  # other columns are numbers, and stand to the right


def heading(group: Group) -> str:
    return f"{group.results[0].job.name}: {group.setting}"


def cautions(group: Group, rows: list[Row]) -> list[str]:
    """What is to be known of one table: what is uneven in it, and what its methods come to in one number."""
    said = []
    if any(0 < r.paired < len(r.seeds) for r in rows):
        said.append("Some changes are over fewer than n seeds: only those that rate 0 has too.")
    if volumes := _volumes(rows):
        said.append(volumes)
    if len({r.data["fingerprint"] for r in group.results}) > 1:
        said.append("The jobs of this table did not read the same images: their data fingerprints differ.")
    return said


def _volumes(rows: list[Row]) -> str:
    """Of the methods with several rates, whose means they are."""
    methods: dict[str, list[Row]] = {}
    for row in rows:
        methods.setdefault(row.method, []).append(row)
    told = [
        f"{method} {front.hypervolume((r.accuracy / 100, r.macs / r.dense_macs) for r in of):.3f} ({len(of)} rates)"
        for method, of in methods.items()
        if len(of) > 1 and all(r.dense_macs for r in of)
    ]
    what = "Hypervolume of mean accuracy and MACs left (the share of the unit square that is surpassed)"
    return f"{what}: {', '.join(told)}." if told else ""


def notes(tables: Sequence[Entry]) -> list[str]:
    """How every table is to be read, a sentence each."""
    repeated = any(row.std is not None for _, rows in tables for row in rows)
    spread = "; mean ± sample standard deviation over n seeds" if repeated else ""
    timed = sorted({result.timed_on for group, _ in tables for result in group.results if result.timed_on})
    devices = sorted({result.device for group, _ in tables for result in group.results})
    return [
        f"Sparsity attained: removed units / prunable units. Test accuracy: after the last epoch{spread}.",
        "Change: from rate 0 of the same method, else from the unpruned net (none), seed by seed.",
        "Parameters left: not zero. MACs and BOPs: per image, zeros credited (a zero weight costs no work).",
        "File: model.safetensors, beside dense safetensors of the unpruned net. Latency: median of a batch of 128 in "
        f"float32, not compiled, on {', '.join(timed) or '?'}, as a share of the unpruned net's, which took turns with "
        "it; on a busy machine it scatters. Score: (accuracy + zeros / weights) / 2.",
        f"Seconds: training and evaluation by the clock, on {', '.join(devices)}.",
    ]


def markdown(tables: Sequence[Entry], unusable: Iterable[InvalidRun], results: Sequence[Result] = ()) -> str:
    """A section for each group, in GitHub's table syntax, the front of all, and the list of jobs not counted."""
    blocks = [block for group, rows in tables for block in _section(group, rows)]
    blocks.append(" ".join(notes(tables)))
    blocks += [block for which, jobs in front.same_images(results).items() for block in _front(which, jobs)]
    if skipped := [f"- `{job.folder.name}`: {job.reason}" for job in unusable]:
        blocks += ["Not counted:", "\n".join(skipped)]
    return "\n\n".join(blocks) + "\n"


def _section(group: Group, rows: list[Row]) -> list[str]:
    columns = KEYS | VALUES
    lines = [_line(columns), _line("---" if name in WORDS else "---:" for name in columns)]
    lines += [_line(cell(row).replace("|", "\\|") for cell in columns.values()) for row in rows]
    return [f"### {heading(group)}", "\n".join(lines), *cautions(group, rows)]


def front_table(jobs: Sequence[Result]) -> tuple[list[str], list[list[str]]] | None:
    """Head and cells of the jobs that no other one surpasses; None where there is no choice."""
    best = front.by_macs(jobs)
    cells = [[*(cell(job) for cell in FRONT.values()), front.settings(job, jobs)] for job in best]
    return ([*FRONT, "settings"], cells) if best else None


def _front(which: str, jobs: Sequence[Result]) -> list[str]:
    if not (table := front_table(jobs)):
        return []
    columns, rows = table
    lines = [_line(columns), _line("---" if name in WORDS else "---:" for name in columns)]
    for *cells, told in rows:
        lines.append(_line(cell.replace("|", "\\|") for cell in (*cells, f"`{told}`" if told else "")))
    return [f"### {front.title(which)}", "\n".join(lines), front.NOTE]


def comma_separated(tables: Iterable[Entry]) -> str:
    """One line for each row of every group; plain numbers, an empty field for what is unknown."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["group", "model", "data", "epochs", *CSV])
    for group, rows in tables:
        first = group.results[0]
        where = [group.label, first.job.labels.get("model", ""), first.job.labels.get("data", ""), first.job.epochs]
        writer.writerows([*where, *(value(row) for value in CSV.values())] for row in rows)
    return text.getvalue()


def _plain(number: float | None) -> float | str:
    """Without the last bits of float arithmetic, which no one wants to see in a spreadsheet."""
    if number is None:
        return ""
    clean = float(number) if float(number).is_integer() else float(f"{number:.12g}")
    return int(clean) if clean.is_integer() else clean


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
