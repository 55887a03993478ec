"""The columns of the tables for reading, and their number formats."""

from collections.abc import Callable

from prunelab.core.text.si_format import si_format
from prunelab.report.tables.table import Row

Column = Callable[[Row], str]

KEYS: dict[str, Column] = {"method": lambda r: r.method, "rate": lambda r: f"{r.rate:g}"}
VALUES: dict[str, Column] = {
    "n": lambda r: str(len(r.seeds)),
    "sparsity attained": lambda r: f"{r.attained:.3f}",
    "test accuracy (%)": lambda r: f"{r.accuracy:.2f}" + ("" if r.std is None else f" ± {r.std:.2f}"),
    "change (points)": lambda r: "" if r.change is None else signed(r.change),
    "parameters left": lambda r: left(r.nonzero, r.params),
    "MACs left": lambda r: left(r.macs, r.dense_macs),
    "BOPs left": lambda r: si_format(r.bops),
    "file": lambda r: "" if r.file_bytes is None else left(r.file_bytes, r.dense_file_bytes or 0),
    "latency": lambda r: "" if r.latency is None else f"{100 * r.latency:.0f}%",
    "score": lambda r: "" if r.score is None else f"{r.score:.3f}",
    "seconds": lambda r: f"{r.seconds:.{1 if r.seconds < 100 else 0}f}",
}


def left(now: float, before: float) -> str:
    return f"{si_format(now)} ({100 * now / before:.1f}%)" if before else si_format(now)


def signed(points: float) -> str:
    return f"{points:+.2f}" if round(points, 2) else "0.00"  # never "-0.00"
