"""Tables of results as Markdown and CSV, and the notes that explain them."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape

from prunelab.core.text.printable import printable
from prunelab.report import pareto
from prunelab.report.groups import Group, counted
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
    "epochs_trained": lambda r: _plain(r.epochs),
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
    "core_hours": lambda r: _plain(r.core_hours),
}


FRONT: dict[str, Callable[[Result], str]] = {
    "method": lambda r: r.method,
    "rate": lambda r: f"{r.job.rate:g}",
    "test accuracy (%)": lambda r: f"{100 * r.accuracy:.2f}",
    "MACs left": lambda r: left(r.pruned.macs, r.dense.macs),
    "parameters left": lambda r: left(r.pruned.nonzero, r.dense.params),
}
FORMULA = ("=", "+", "-", "@")  # how a formula begins; a tab is escaped already
WORDS = ("method", "settings")  # the other columns are numbers, aligned to the right


def heading(group: Group) -> str:
    return f"{group.results[0].job.name}: {group.setting}"


def cautions(group: Group, rows: list[Row]) -> list[str]:
    """Notes on one table: what is uneven in it."""
    sentences = []
    if any(0 < r.paired < len(r.seeds) for r in rows):
        sentences.append("Some changes are over fewer than n seeds: only those that were trained unpruned as well.")
    if any(r.change_epochs not in (None, r.epochs) for r in rows):
        trained = counted([r.trained_epochs for r in group.results], "epoch")
        sentences.append(f"Jobs trained for {trained} in all; what more training gives is in their changes, too.")
    if len({r.data["fingerprint"] for r in group.results}) > 1:
        sentences.append("The jobs of this table did not use the same images: their data fingerprints differ.")
    if not group.scattered and len({(r.dense.params, r.dense.macs) for r in group.results}) > 1:
        sentences.append("The unpruned networks of this table differ: has their code changed in between?")
    if left_out := dict.fromkeys(products for r in group.results for products in r.dense.left_out):
        sentences.append(f"MACs and BOPs are without {'; '.join(left_out)}.")
    return sentences


def hypervolumes(tables: Sequence[Entry]) -> list[str]:
    """A sentence for each group in which a method has several rates."""
    found = [(group, _hypervolumes(rows)) for group, rows in tables]
    several = len(tables) > 1
    return [f"{group.label}: {volumes}" if several else volumes for group, volumes in found if volumes]


def _hypervolumes(rows: list[Row]) -> str:
    """Of the means of each method with several rates."""
    methods: dict[str, list[Row]] = {}
    for row in rows:
        methods.setdefault(row.method, []).append(row)
    volumes = []
    for method, means in methods.items():
        if len(means) > 1 and all(r.dense_macs for r in means):
            volume = pareto.hypervolume((r.accuracy / 100, r.macs / r.dense_macs) for r in means)
            volumes.append(f"{method} {volume:.3f} ({len(means)} rates)")
    what = "Hypervolume of mean accuracy and MACs left (the share of the unit square that is dominated)"
    return f"{what}: {', '.join(volumes)}." if volumes else ""


def notes(tables: Sequence[Entry]) -> list[str]:
    """How to read the tables, one sentence each."""
    repeated = any(row.std is not None for _, rows in tables for row in rows)
    spread = "; mean ± sample standard deviation over n seeds" if repeated else ""
    timed = sorted({result.timed_on for group, _ in tables for result in group.results if result.timed_on})
    devices = sorted({result.device for group, _ in tables for result in group.results})
    return [
        f"Sparsity attained: removed units / prunable units. Test accuracy: after the last epoch{spread}.",
        "Change: from rate 0 of the same method, or from the unpruned network (none) where that has more of the seeds; "
        "at rate 0 from none; seed by seed.",
        "Parameters left: non-zero ones. MACs and BOPs: per image, effective (no work for a weight that is 0).",
        "File: model.safetensors, relative to dense safetensors of the unpruned network. Latency: median of a batch of "
        f"128 on {' or '.join(timed) or '?'}, as a share of the unpruned network's, timed in turn with it; noisy on a "
        "busy machine. Score: (accuracy + zeros / weights) / 2.",
        f"Seconds: wall-clock time of training and evaluation, without compilation, on {', '.join(devices)}.",
    ]


def markdown(tables: Sequence[Entry], unusable: Iterable[InvalidRun], results: Sequence[Result] = ()) -> str:
    """In GitHub's table syntax: a section for each group, the Pareto front of all jobs, and the excluded jobs."""
    blocks = [block for group, rows in tables for block in _section(group, rows)]
    blocks.append(_escaped(" ".join(notes(tables))))
    blocks += [block for which, jobs in pareto.same_images(results).items() for block in _front(which, jobs)]
    blocks += map(_escaped, hypervolumes(tables))
    if excluded := [f"- {_code(job.name or job.folder.name)}: {_escaped(job.reason)}" for job in unusable]:
        blocks += ["Excluded:", "\n".join(excluded)]
    return "\n\n".join(blocks) + "\n"


def _section(group: Group, rows: list[Row]) -> list[str]:
    columns = KEYS | VALUES
    lines = [_line(columns), _line("---" if name in WORDS else "---:" for name in columns)]
    lines += [_line(_escaped(cell(row)) for cell in columns.values()) for row in rows]
    return [f"### {_escaped(heading(group))}", "\n".join(lines), *map(_escaped, cautions(group, rows))]


def front_table(jobs: Sequence[Result]) -> tuple[list[str], list[list[str]]] | None:
    """Column names and cells of the Pareto-optimal jobs; None where all jobs cost the same."""
    best = pareto.by_macs(jobs)
    cells = [[*(cell(job) for cell in FRONT.values()), pareto.settings(job, jobs)] for job in best]
    return ([*FRONT, "settings"], cells) if best else None


def _front(which: str, jobs: Sequence[Result]) -> list[str]:
    if not (table := front_table(jobs)):
        return []
    columns, rows = table
    lines = [_line(columns), _line("---" if name in WORDS else "---:" for name in columns)]
    for *cells, settings in rows:
        lines.append(_line([*map(_escaped, cells), _code(settings) if settings else ""]))
    return [f"### {_escaped(pareto.title(which))}", "\n".join(lines), pareto.NOTE]


def comma_separated(tables: Iterable[Entry]) -> str:
    """One line for each row of every group; plain numbers, empty fields for unknown ones."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["group", "model", "data", "epochs", *CSV])
    for group, rows in tables:
        jobs = {(r.method, r.job.rate): r.job for r in group.results}  # a scattered group has several models
        for row in rows:
            job = jobs[row.method, row.rate]
            where = [group.label, job.labels.get("model", ""), job.labels.get("data", ""), job.epochs]
            writer.writerow(map(_field, [*where, *(value(row) for value in CSV.values())]))
    return text.getvalue()


def _field(value: object) -> object:
    """Spreadsheets calculate a text that begins like a formula."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _plain(number: float | None) -> float | str:
    """Without the rounding errors of float arithmetic."""
    if number is None:
        return ""
    clean = float(number) if float(number).is_integer() else float(f"{number:.12g}")
    return int(clean) if clean.is_integer() else clean


def _escaped(text: str) -> str:
    """For Markdown, without HTML, links, code or another column in it."""
    return re.sub(r"([\\`\[\]|])", r"\\\1", escape(printable(text), quote=False))


def _code(text: str) -> str:
    """As code, or as plain text where a character in it could end the code or the cell."""
    return f"`{text}`" if text.isprintable() and not set(text) & set("`|\\") else _escaped(text)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
