"""Sensitivity of each layer: accuracy with one layer pruned alone, without retraining."""

import logging
from typing import Any, ClassVar

import lightning as L

from prunelab.callbacks.analysis.analysis import PostTrainingAnalysis
from prunelab.callbacks.analysis.evaluator import MaskEvaluator
from prunelab.callbacks.analysis.knee import grid
from prunelab.core.pruner import Pruner
from prunelab.core.types import Example, Scores

log = logging.getLogger(__name__)


class Sensitivity(PostTrainingAnalysis):
    """Accuracy with one layer, or group of coupled channels, pruned and the others whole (Li et al. 2017, fig. 2b).

    `layers` has accuracies by layer, one for each of `rates`, of which the first is 0. With `batches` of training
    data `reestimated` has those with running statistics re-estimated under each mask.
    """

    name: ClassVar[str] = "sensitivity"

    def __init__(self, pruner: Pruner, rates: int | list[float] = 10, batches: int = 0) -> None:
        super().__init__(pruner, rates, batches)

    def check(self, module: L.LightningModule, example: Example | None) -> None:
        if not self.pruner.allocation.by_layer or self.pruner.allocation.own_rates:
            kind = type(self.pruner.allocation).__name__
            raise ValueError(f"Sensitivity prunes one layer alone, {kind} shares out: use prune/allocation=uniform")
        if self.pruner.granularity.whole_layers:
            raise ValueError("Sensitivity prunes a part of each layer, and blocks go whole: use another granularity")
        super().check(module, example)

    def find(self, evaluate: MaskEvaluator, units: Scores) -> dict[str, Any]:
        rates = grid(self.rates)
        unpruned = evaluate({})
        layers = {}
        for name, scores in units.items():
            masks = self.pruner.allocation.masks_at({name: scores})
            layers[name] = [unpruned, *(evaluate(masks(rate)) for rate in rates[1:])]
            log.info("sensitivity: %s  test %s", name, "  ".join(f"{100 * plain:.1f} %" for plain, _ in layers[name]))
        plain = {name: [accuracy for accuracy, _ in row] for name, row in layers.items()}
        reestimated = {name: [accuracy for _, accuracy in row] for name, row in layers.items()}
        return {"rates": rates, "layers": plain, "reestimated": reestimated if unpruned[1] is not None else None}
