"""How does accuracy fall with the rate, without training in between? A whole curve of a trained net, and its knee."""

import logging
from typing import Any, ClassVar

import lightning as L

from prunelab.callbacks.analysis.analysis import PostTrainingAnalysis
from prunelab.callbacks.analysis.evaluator import Accuracies, MaskEvaluator
from prunelab.callbacks.analysis.knee import Window, finer, grid, knee, window
from prunelab.core.pruner import Pruner
from prunelab.core.types import Example, Scores

log = logging.getLogger(__name__)
CURVES = ("accuracy", "reestimated")


class Scan(PostTrainingAnalysis):
    """Accuracy over `rates`: so many equal steps, or a list; then `zoom` parts of each step next to the knees.

    Scores are computed, and sorted, once. `accuracy` is that of the net as it is; `reestimated` with the running
    statistics of its batch norms estimated anew, over `batches` of training data, under each mask (null without batch
    norm). A knee is the last rate up to which at most `tolerance` of the accuracy at rate 0 of the same curve is lost.
    The zoom looks at those of the first rates, `reach` steps to either side, and finds them again among all; N:M has
    no rates in between, and no zoom. A knee describes test data, and chooses nothing but where the zoom looks.
    """

    name: ClassVar[str] = "scan"

    def __init__(
        self,
        pruner: Pruner,
        rates: int | list[float] = 100,
        batches: int = 20,
        tolerance: float = 0.01,
        zoom: int = 5,
        reach: int = 2,
    ) -> None:
        super().__init__(pruner, rates, batches)
        self.tolerance, self.zoom, self.reach = tolerance, zoom, reach

    def check(self, module: L.LightningModule, example: Example | None) -> None:
        super().check(module, example)
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance={self.tolerance}: expected a fraction in [0, 1), of all test images")
        if not all(isinstance(n, int) and n >= 1 for n in (self.zoom, self.reach)):
            raise ValueError(
                f"zoom={self.zoom}, reach={self.reach}: expected whole numbers of at least 1; zoom=1 is no closer look"
            )

    def find(self, trial: MaskEvaluator, units: Scores) -> dict[str, Any]:
        masks, rates = self.pruner.allocation.masks_at(units), grid(self.rates)

        def worth(rate: float) -> Accuracies:
            found = trial(masks(rate))
            log.info("scan: rate %g  test %s", rate, "  ".join(f"{100 * a:.1f} %" for a in found if a is not None))
            return found

        found = {rate: worth(rate) for rate in rates}
        windows = self._windows(found)
        for closer in windows:
            found |= {rate: worth(rate) for rate in finer(rates, closer, self.zoom) if rate not in found}
        curves, knees = self._curves(found), self._knees(found)
        for name, at in knees.items():
            log.info("scan: knee of %s at %s", name, "no rate of these" if at is None else f"{at:g}")
        return {"rates": sorted(found), **curves, "knee": knees, "tolerance": self.tolerance, "windows": windows}

    def _windows(self, found: dict[float, Accuracies]) -> list[Window]:
        if self.zoom == 1 or self.pruner.in_groups:
            return []
        knees = {at for at in self._knees(found).values() if at is not None}
        return [window(sorted(found), at, self.reach) for at in sorted(knees)]

    def _knees(self, found: dict[float, Accuracies]) -> dict[str, float | None]:
        curves = self._curves(found)
        return {name: knee(sorted(found), curve, self.tolerance) for name, curve in curves.items() if curve}

    def _curves(self, found: dict[float, Accuracies]) -> dict[str, Any]:
        ordered = [found[rate] for rate in sorted(found)]
        return {
            name: [worth[i] for worth in ordered] if ordered[0][i] is not None else None
            for i, name in enumerate(CURVES)
        }
