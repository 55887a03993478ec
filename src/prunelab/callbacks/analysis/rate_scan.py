"""Rate scan: accuracy of a trained network over many rates, without retraining, and the knee of the curve."""

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

    Scores are computed, and sorted, once. `reestimated` is the accuracy with the running statistics of batch norms
    re-estimated on `batches` of training data under each mask (null without batch norm). A knee is the last rate up
    to which at most `tolerance` of the same curve's accuracy at rate 0 is lost. The zoom covers `reach` steps to
    either side of the first rates' knees, which are then found again among all rates; N:M has no rates in between,
    and no zoom. Knees are of test data and decide nothing but where to zoom.
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
                f"zoom={self.zoom}, reach={self.reach}: expected whole numbers of at least 1; zoom=1 is no zoom"
            )

    def find(self, evaluate: MaskEvaluator, units: Scores) -> dict[str, Any]:
        masks, rates = self.pruner.allocation.masks_at(units), grid(self.rates)

        def accuracies(rate: float) -> Accuracies:
            results = evaluate(masks(rate))
            log.info("scan: rate %g  test %s", rate, "  ".join(f"{100 * a:.1f} %" for a in results if a is not None))
            return results

        by_rate = {rate: accuracies(rate) for rate in rates}
        windows = self._windows(by_rate)
        for closer in windows:
            by_rate |= {rate: accuracies(rate) for rate in finer(rates, closer, self.zoom) if rate not in by_rate}
        curves, knees = self._curves(by_rate), self._knees(by_rate)
        for name, rate in knees.items():
            log.info("scan: knee of %s at %s", name, "no rate of these" if rate is None else f"{rate:g}")
        return {"rates": sorted(by_rate), **curves, "knee": knees, "tolerance": self.tolerance, "windows": windows}

    def _windows(self, by_rate: dict[float, Accuracies]) -> list[Window]:
        if self.zoom == 1 or self.pruner.granularity.in_groups:
            return []
        knees = {rate for rate in self._knees(by_rate).values() if rate is not None}
        return [window(sorted(by_rate), rate, self.reach) for rate in sorted(knees)]

    def _knees(self, by_rate: dict[float, Accuracies]) -> dict[str, float | None]:
        curves = self._curves(by_rate)
        return {name: knee(sorted(by_rate), curve, self.tolerance) for name, curve in curves.items() if curve}

    def _curves(self, by_rate: dict[float, Accuracies]) -> dict[str, Any]:
        ordered = [by_rate[rate] for rate in sorted(by_rate)]
        return {
            name: [accuracies[i] for accuracies in ordered] if ordered[0][i] is not None else None
            for i, name in enumerate(CURVES)
        }
