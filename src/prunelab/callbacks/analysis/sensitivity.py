"""Which layers suffer from pruning? Each is pruned alone, at several rates, without training in between."""

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
    """Accuracy with one layer pruned, or one group of coupled channels, and the others whole (Li et al. 2017, fig. 2b).

    `layers` has accuracies by layer, one for each of `rates`, of which the first is 0. With `batches` of training data
    running statistics are estimated anew under each mask, and `reestimated` has those accuracies.
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

    def find(self, trial: MaskEvaluator, units: Scores) -> dict[str, Any]:
        rates = grid(self.rates)
        whole = trial({})
        layers = {}
        for name, scores in units.items():
            masks = self.pruner.allocation.masks_at({name: scores})
            layers[name] = [whole, *(trial(masks(rate)) for rate in rates[1:])]
            log.info("sensitivity: %s  test %s", name, "  ".join(f"{100 * plain:.1f} %" for plain, _ in layers[name]))
        found: dict[str, Any] = {"rates": rates}
        found["layers"] = {name: [plain for plain, _ in row] for name, row in layers.items()}
        anew = {name: [again for _, again in row] for name, row in layers.items()}
        return found | {"reestimated": anew if whole[1] is not None else None}
