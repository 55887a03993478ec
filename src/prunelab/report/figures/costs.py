"""What may a net cost, of which pruning makes it less?"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prunelab.store.result import BATCH, Result


@dataclass(frozen=True)
class Cost:
    """None where a job did not measure it."""

    title: str
    axis: str
    of: Callable[[Result], float | None]

    def told(self, results: Iterable[Result]) -> list[Result]:
        """Those that measured it; [] where all of them cost the same."""
        found = [r for r in results if self.of(r) is not None]
        return found if len({self.of(r) for r in found}) > 1 else []


MACS = Cost("MACs", "MACs left, per image", lambda r: r.pruned.macs)
BOPS = Cost("BOPs", "BOPs left, per image", lambda r: r.pruned.bops)
PARAMETERS = Cost("parameters", "parameters left", lambda r: r.pruned.nonzero)
BYTES = Cost("bytes", "bytes of the file", lambda r: r.pruned.file_bytes)
LATENCY = Cost("latency", f"latency of {BATCH} images, as a share of the unpruned net's", lambda r: r.latency)
