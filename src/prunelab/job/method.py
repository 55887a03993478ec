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
from prunelab.core.time import Progress
from prunelab.store.job import Job


@dataclass(frozen=True)
class Method:
    """The callbacks of `conf/prune`, in their order."""

    callbacks: tuple[L.Callback, ...]

    @classmethod
    def of(cls, job: Job) -> "Method":
        return cls(tuple(instantiate(callback) for callback in (job.config.get("prune") or {}).values()))

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
        """Callbacks that act on training but do not prune, rewind, shrink or analyse."""
        return [
            callback
            for callback in self.callbacks
            if not isinstance(callback, Pruning | Rewind | Shrink | PostTrainingAnalysis)
        ]

    @property
    def trains_dense(self) -> bool:
        """Whether training ends in the bits of training without a method; subclasses of others may do anything."""
        idle = all(
            type(callback) in (Pruning, Rewind, Shrink)
            or (isinstance(callback, PostTrainingAnalysis) and type(callback).__module__.startswith("prunelab."))
            for callback in self.callbacks
        )
        schedules = [pruner.schedule for pruner in self.pruners]
        return idle and all(type(s) in (Rounds, Cubic) and s.rate == 0 for s in schedules)  # type: ignore[attr-defined]

    def run(self, epochs: int, epoch: int) -> Progress:
        """The whole run; one training has `epochs` epochs of `epoch` steps."""
        lengths = [pruner.schedule.length(epoch) for pruner in self.pruners]
        return Progress(0, max([steps for steps in lengths if steps], default=epochs * epoch), epoch)

    def schedule_epochs(self, epochs: int, epoch: int) -> int:
        """Epochs of the learning-rate schedule: none where trained weights are pruned and fine-tuned."""
        at_once = self.rounds is not None and self.rounds.ends(epoch)[:1] == [0]
        return 0 if at_once and self.rewind is None else epochs

    def surgery(self) -> dict[str, Any] | None:
        """What proves that the small network computes what the masked one did; None where no channel was removed."""
        certificate = self.shrink.certificate if self.shrink else None
        return {"certificate": certificate.to_json()} if certificate else None

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
