"""The costs of a network that figures show."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prunelab.store.result import BATCH, Result


@dataclass(frozen=True)
class Cost:
    """`value` is None for a job that did not measure it."""

    title: str
    axis: str
    value: Callable[[Result], float | None]
    where: Callable[[Result], str] | None = None  # it was measured; a mean over several places means nothing

    def measured(self, results: Iterable[Result]) -> list[Result]:
        """The jobs that measured it, those of a row in one place; [] where all of them cost the same."""
        jobs = [r for r in results if self.value(r) is not None]
        if self.where:
            places: dict[tuple[str, float], set[str]] = {}
            for r in jobs:
                places.setdefault((r.method, r.job.rate), set()).add(self.where(r))
            jobs = [r for r in jobs if len(places[r.method, r.job.rate]) == 1]
        return jobs if len({self.value(r) for r in jobs}) > 1 else []


MACS = Cost("MACs", "MACs left, per image", lambda r: r.pruned.macs)
BOPS = Cost("BOPs", "BOPs left, per image", lambda r: r.pruned.bops)
PARAMETERS = Cost("parameters", "parameters left", lambda r: r.pruned.nonzero)
BYTES = Cost("bytes", "bytes of the file", lambda r: r.pruned.file_bytes)
LATENCY = Cost(
    "latency",
    f"latency of {BATCH} images, as a share of the unpruned network's",
    lambda r: r.latency,
    lambda r: r.timed_on,
)
