"""A job's method: its callbacks, the length of its run, and its results."""

from dataclasses import dataclass
from typing import Any

import lightning as L
from hydra.utils import instantiate

from prunelab.callbacks.analysis.analysis import PostTrainingAnalysis
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.rewind import Rewind
from prunelab.callbacks.shrink import Shrink
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic, Rounds
from prunelab.core.time import Progress, to_step
from prunelab.store.identity import OBSERVERS
from prunelab.store.job import Job


@dataclass(frozen=True)
class Method:
    """The callbacks of `conf/prune`, in their order, then those of `conf/callbacks`."""

    callbacks: tuple[L.Callback, ...]

    @classmethod
    def of(cls, job: Job) -> "Method":
        parts = [*(job.config.get("prune") or {}).values(), *(job.config.get("callbacks") or {}).values()]
        return cls(tuple(instantiate(callback) for callback in parts if callback is not None))

    @property
    def pruning(self) -> list[Pruning]:
        return [callback for callback in self.callbacks if isinstance(callback, Pruning)]

    @property
    def pruners(self) -> list[Pruner]:
        return [pruning.pruner for pruning in self.pruning]

    @property
    def rewind(self) -> Rewind | None:
        return next((callback for callback in self.callbacks if isinstance(callback, Rewind)), None)

    @property
    def rounds(self) -> Rounds | None:
        """The schedule, if the method prunes in rounds."""
        schedules = [pruner.schedule for pruner in self.pruners]
        return next((s for s in schedules if isinstance(s, Rounds) and s.in_rounds), None)

    @property
    def shrink(self) -> Shrink | None:
        return next((callback for callback in self.callbacks if isinstance(callback, Shrink)), None)

    @property
    def analyses(self) -> list[PostTrainingAnalysis]:
        """Those that evaluate the trained network and change nothing."""
        return [callback for callback in self.callbacks if isinstance(callback, PostTrainingAnalysis)]

    @property
    def others(self) -> list[L.Callback]:
        """Callbacks that act on training but do not prune, rewind, shrink, analyse or only log."""
        return [
            callback
            for callback in self.callbacks
            if not isinstance(callback, Pruning | Rewind | Shrink | PostTrainingAnalysis)
            and type(callback).__name__ not in OBSERVERS
        ]

    @property
    def trains_dense(self) -> bool:
        """Whether training ends in the bits of training without a method."""
        return self._idle and all(pruner.schedule.rate == 0 for pruner in self.pruners)  # type: ignore[attr-defined]

    def dense_epochs(self, run: Progress) -> int:
        """The whole epochs before the first pruning, in which the bits are those of training without a method.

        0 where something of the method is kept from these epochs, and where nothing but they is trained.
        """
        keeps = self.rewind is not None or any(pruner.watches for pruner in self.pruners)
        if keeps or not self._idle:
            return 0
        first = min((to_step(p.schedule.start, run) for p in self.pruners), default=0)  # type: ignore[attr-defined]
        return first // run.epoch if first < run.total else 0

    @property
    def _idle(self) -> bool:
        """Whether nothing acts on training before the first pruning; subclasses of others may do anything."""
        return all(type(pruner.schedule) in (Rounds, Cubic) for pruner in self.pruners) and all(
            type(callback) in (Pruning, Rewind, Shrink)
            or (isinstance(callback, PostTrainingAnalysis) and type(callback).__module__.startswith("prunelab."))
            for callback in self.callbacks
        )

    def run(self, epochs: int, epoch: int) -> Progress:
        """The whole run; one training has `epochs` epochs of `epoch` steps."""
        lengths = [pruner.schedule.length(epoch) for pruner in self.pruners]
        return Progress(0, max([steps for steps in lengths if steps], default=epochs * epoch), epoch)

    def schedule_epochs(self, epochs: int, epoch: int) -> int:
        """Epochs of the learning-rate schedule: none where trained weights are pruned and fine-tuned."""
        at_once = self.rounds is not None and self.rounds.ends(epoch)[:1] == [0]
        return 0 if at_once and self.rewind is None else epochs

    def surgery(self) -> dict[str, Any] | None:
        """What proves that the small network computes what the masked one did, and after how many steps it became
        small; None where no channel was removed.
        """
        if not self.shrink or not self.shrink.certificate:
            return None
        return {"certificate": self.shrink.certificate.to_json(), "step": self.shrink.step}

    def results(self) -> dict[str, Any]:
        """Results of the analyses, by name."""
        return {analysis.name: analysis.result for analysis in self.analyses}

    def attained(self) -> float:
        """The fraction removed of what the budget counts; 0 without pruning."""
        return max((pruner.attained for pruner in self.pruners), default=0.0)

    def rounded(self) -> dict[str, Any]:
        """By layer, where widths were rounded: the units that would be left without it, and those that are."""
        changed = {name.removeprefix("net."): n for pruner in self.pruners for name, n in pruner.rounded.items()}
        return {"rounded": changed} if changed else {}

    def units(self) -> dict[str, tuple[int, int]]:
        """(removed, all) units of each layer, by its name inside the network."""
        counts = {name: n for pruner in self.pruners for name, n in pruner.unit_counts().items()}
        return {name.removeprefix("net."): n for name, n in counts.items()}
