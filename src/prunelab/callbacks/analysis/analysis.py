"""Analyses of a trained network under temporary masks."""

import logging
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.trainer.states import TrainerFn

from prunelab.callbacks.analysis.evaluator import MaskEvaluator, loader_of_tests
from prunelab.callbacks.analysis.knee import grid
from prunelab.callbacks.averages import TakeAverages
from prunelab.callbacks.scoring import draw_batches
from prunelab.core.context import Batch, cross_entropy
from prunelab.core.dry_run import dry_run
from prunelab.core.network.preserve import preserve_state
from prunelab.core.numbers.seeding import derived_generator
from prunelab.core.pruner import Pruner
from prunelab.core.types import Example, Scores
from prunelab.measure.batch_norm import norms

log = logging.getLogger(__name__)


class PostTrainingAnalysis(TakeAverages):
    """Evaluates masks on a network when its training ends, or after `validate` or `test` without training.

    The parts of `pruner` score, group and allocate; its schedule is not used. Accuracy is on all of the
    `test_dataloader` of the data module or the module, in batches (inputs, targets), whatever the Trainer's limits.
    With `batches` of training data running statistics of batch norms are also re-estimated under each mask; these
    batches, and those of criteria, come from the training loader, or from `statistics_batches`, augmented as in
    training, and `scoring_batches` of the data module.
    Hooks of the data see all of them as in testing. Weights, buffers, modes and torch's random streams are restored
    to the bit. After each mask `on_mask_evaluated(trainer, module)` of all callbacks
    that have it is called. `result` is for JSON.

    Raises ValueError before training for parts that do not fit, rates outside [0, 1), and several devices.
    """

    name: ClassVar[str]  # in result.json

    def __init__(self, pruner: Pruner, rates: int | list[float], batches: int) -> None:
        self.pruner = pruner
        self.rates = rates
        self.batches = batches
        self.result: dict[str, Any] | None = None

    @abstractmethod
    def find(self, evaluate: MaskEvaluator, units: Scores) -> dict[str, Any]:
        """The results of masks of these units, by score."""

    @property
    def scored_on(self) -> int:
        """The most batches of training data in use."""
        return max(self.batches, self.pruner.batches)

    def check(self, module: L.LightningModule, example: Example | None) -> None:
        """Raises ValueError, naming the value and the remedy, for what would fail after training."""
        kind, pruner = type(self).__name__, self.pruner
        if pruner.budget or pruner.regrow or pruner.passes > 1:
            raise ValueError(
                f"{kind} allocates units that are scored once: leave budget, regrow and passes out of its pruner"
            )
        if pruner.watches or pruner.criterion.of_units:
            raise ValueError(
                f"{kind} scores a trained network, and {type(pruner.criterion).__name__} uses what a method has "
                "recorded in training: choose another criterion, as prune/criterion=magnitude"
            )
        if pruner.allocation.own_rates:
            raise ValueError(
                f"{kind} tries many rates, and {type(pruner.allocation).__name__} has its own: use "
                "prune/allocation=uniform, global or erk"
            )
        if not isinstance(self.batches, int) or self.batches < 0:
            raise ValueError(f"batches={self.batches}: expected a number of training batches, 0 for none")
        rates = grid(self.rates)
        pruner.attach(module, example)
        for rate in rates:
            pruner.granularity.check(rate)
        dry_run(pruner, rates[-1])

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "predict" or (stage != "fit" and trainer.global_step):
            return
        self.result = None
        self.check(pl_module, _example(pl_module))
        kind = type(self).__name__
        if trainer.world_size > 1:
            raise ValueError(f"{kind} works on one device: set devices=1, {trainer.world_size} would do the same")
        draws_itself = hasattr(getattr(trainer, "datamodule", None), "scoring_batches")
        if stage != "fit" and self.scored_on and not draws_itself:
            raise ValueError(f"{kind} outside of fit: give the data module scoring_batches(count, generator)")
        if self.batches and not norms(pl_module):
            log.info("%s: the network has no batch norm, so there is one curve", self.name)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_fit_start(trainer, pl_module)
        loader_of_tests(trainer, pl_module, ready=False)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        several = isinstance(trainer.train_dataloader, list | tuple | dict)
        batches = None if several else sized_len(trainer.train_dataloader)
        if batches is not None and self.scored_on > batches:
            raise ValueError(
                f"{type(self).__name__} asks for {self.scored_on} batches, the training data have "
                f"{batches}: lower its batches or its criterion's, or the batch size"
            )

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Not on_train_end, which is not called when a checkpoint leaves nothing to train."""
        super().on_fit_end(trainer, pl_module)
        self._analyse(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING and not trainer.global_step:
            self._analyse(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.global_step:
            self._analyse(trainer, pl_module)

    def _analyse(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        began = time.monotonic()

        def draw(count: int, generator: torch.Generator) -> list[Batch]:
            return draw_batches(trainer, count, generator)

        with _where_it_trained(trainer, module), _testing(trainer), torch.inference_mode(False), preserve_state(module):
            # Again: training may have made the network smaller.
            self.pruner.attach(module, _example(module), draw, getattr(module, "scoring_loss", cross_entropy))
            units = {name: score.detach() for name, score in self.pruner.unit_scores().items()}
            count = self.batches if norms(module) else 0
            seeded = derived_generator(self.name, self.pruner.seed)
            batches = draw_batches(trainer, count, seeded, augmented=True) if count else []
            largest = max((len(inputs) for inputs, _ in batches), default=0)
            # A last batch of one image has no variance.
            inputs_only = [inputs for inputs, _ in batches if len(inputs) > 1 or largest == 1]
            evaluate = MaskEvaluator(trainer, module, self.pruner, inputs_only)
            results = self.find(evaluate, units)
        parts = {
            "criterion": repr(self.pruner.criterion),
            "granularity": type(self.pruner.granularity).__name__,
            "allocation": repr(self.pruner.allocation),
        }
        self.result = parts | results | {
            "n": evaluate.images,
            "statistics_from": sum(map(len, inputs_only)),  # images
            "seconds": time.monotonic() - began,
        }  # fmt: skip


def _example(module: L.LightningModule) -> Example | None:
    example = module.example_input_array
    if isinstance(example, dict):
        raise ValueError("example_input_array is a dict: expected a tensor or a tuple of tensors")
    return example


@contextmanager
def _testing(trainer: L.Trainer) -> Iterator[None]:
    """At the end of a fit the Trainer is still in its training stage, and hooks of the data would augment."""
    before, trainer.testing = trainer.state.stage, True
    try:
        yield
    finally:
        trainer.state.stage = before


@contextmanager
def _where_it_trained(trainer: L.Trainer, module: L.LightningModule) -> Iterator[None]:
    """Lightning moves the network to the CPU before on_fit_end."""
    device = module.device
    module.to(trainer.strategy.root_device)
    try:
        yield
    finally:
        module.to(device)
