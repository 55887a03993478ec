"""Prunes while any LightningModule trains."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn

from prunelab.callbacks.after_step import AfterStep, only_optimizer
from prunelab.callbacks.averages import averages
from prunelab.callbacks.neighbours import notify, of_kind
from prunelab.callbacks.scaled_gradients import check_unscaled
from prunelab.callbacks.scoring import check_loader, draw_batches, is_fast_dev_run, progress, steps_done
from prunelab.core import distributed
from prunelab.core.context import Loss, cross_entropy
from prunelab.core.dry_run import check_run
from prunelab.core.network.living_norms import refuse_living
from prunelab.core.network.prunable import left_dense
from prunelab.core.pruner import Pruner
from prunelab.core.regrow import FEW
from prunelab.core.time import Progress
from prunelab.core.types import Example

log = logging.getLogger(__name__)


class Pruning(L.Callback):
    """Drives a Pruner through one fit: masks change between two optimizer steps, never inside one.

    A pruned weight and its momentum are 0 after every step, in validation and in every checkpoint, and so it is in
    the averaged copies of other callbacks (EMA, SWA), wherever they stand in the list; checkpoints hold the masks.
    Works with gradient accumulation, clipping and manual optimization, where a batch is one step of the schedule,
    however often the optimizer steps. The last batch of a `fast_dev_run` prunes to the final rate. Filter pruning needs
    `example_input_array` on the module. Criteria that use data take batches (inputs, targets) from the training loader,
    or from the data module's `scoring_batches`, and `loss` of (outputs, targets), by default the module's
    `scoring_loss` where it has one, else cross-entropy. After each rise of the rate
    `on_pruned(trainer, module, pruner, run)` of all callbacks that have it is called.

    In another fit of the same module the masks go on, also in another Trainer, as long as what is masked is still 0;
    another module starts afresh. Beside masks that go on, also those of a checkpoint, what was thawed in between is
    pruned by the schedule of this fit; after surgery nothing more is.

    Prunable is what is trained when a fit begins: frozen weights, and those of layers of unknown kinds, stay dense
    and are named in the log. A weight that is thawed later (BaseFinetuning) stays dense for that fit; one that is
    frozen later stays prunable.

    Under DDP all ranks have the same masks: the gradients of criteria are averaged, and whenever masks change
    their checksums are compared; a difference is a RuntimeError that names the layer.

    Logs `sparsity/all` and `units_removed/<layer>` each epoch: the fraction of units removed.
    Raises ValueError before training for a schedule that does not fit, a network with nothing to prune, more than one
    optimizer, or scores and batches of the training loader that could not be used. Warns after a training that ended
    before its rate, or whose zeros another callback has undone.
    """

    def __init__(self, pruner: Pruner, loss: Loss | None = None) -> None:
        if not isinstance(pruner, Pruner):
            raise TypeError(f"Pruning({pruner!r}): expected a Pruner, which holds a criterion and the other parts")
        self.pruner = pruner
        self.loss = loss
        self._hook: AfterStep | None = None
        self._first = True  # whether the next batch is the first of a fit
        self._loaded: dict[str, Any] | None = None
        self._checked: L.LightningModule | None = None  # since the last training

    @property
    def state_key(self) -> str:
        """Distinguishes two of these in one Trainer by what they prune."""
        return self._generate_state_key(units=type(self.pruner.granularity).__name__, skip=list(self.pruner.skip))

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._loaded = None  # from an earlier run; Lightning loads a checkpoint after this, in any stage

    def check(self, module: L.LightningModule, example: Example, run: Progress) -> None:
        """Raises ValueError for what would fail in a training of `module`; the next of them analyses it no more."""
        self.pruner.attach(module, example)
        check_run(self.pruner, run)
        self._checked = module

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        example = pl_module.example_input_array
        if isinstance(example, dict):
            raise ValueError("example_input_array is a dict: Pruning takes a tensor or a tuple of tensors")
        loss: Loss = getattr(pl_module, "scoring_loss", cross_entropy) if self.loss is None else self.loss
        state = self._loaded
        if state is None and self.pruner.continues(pl_module):
            state = self.pruner.state_dict() | {"regrown": 0}  # steps may be counted anew
            log.info("the network is that of the last fit: its masks go on, at rate %.4g", state["rate"])
        removed = state is not None and state["removed"]
        average = distributed.average if trainer.world_size > 1 else None
        bound, self._checked = self._checked is pl_module, None
        self.pruner.attach(
            pl_module, example, lambda k, generator: draw_batches(trainer, k, generator), loss, removed, average, bound
        )
        if state is not None:
            self.pruner.load_state_dict(state)
        if trainer.is_global_zero:
            for line in left_dense(pl_module):
                log.warning(line)

        self.check_outcome(of_kind(trainer, L.Callback))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING and self._loaded is not None and not self._loaded["removed"]:
            refuse_living(pl_module)

    on_test_start = on_predict_start = on_validation_start

    def check_outcome(self, callbacks: Sequence[L.Callback]) -> None:
        """Raises ValueError where norms would know of masks to the end: loaded again, the network would be another."""
        norms = self.pruner.granularity.norms
        if norms and not any(getattr(callback, "removes_units", False) for callback in callbacks):
            raise ValueError(
                f"{next(iter(norms))} and {len(norms) - 1} more are of norms that run over the channels left, which a "
                "masked network does not tell when it is loaded: add the callback Shrink, or prune other units "
                "(prune/granularity=filter, neuron or head)"
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Not before: the number of steps loads the data, and if that comes too early a resumed run begins its epoch
        # again.
        run = progress(trainer, step=0)
        check_run(self.pruner, run, timed=True)
        regrow = self.pruner.regrow if self.pruner.schedule(replace(run, step=run.total)) else None
        if regrow and trainer.is_global_zero and regrow.exchanges(run) < FEW:
            log.warning("only %d exchanges of weights: raise epochs, or lower regrow.every", regrow.exchanges(run))
        optimizer = only_optimizer(trainer, self)
        if self.pruner.watches:
            check_unscaled(trainer, "a criterion that watches training")
        # Runs after the step and before any on_train_batch_end, so that nothing sees a weight that moved from 0.
        self._hook = AfterStep(optimizer, self._stepped)
        self._mask_averages(trainer, pl_module)
        self._first = True
        final = self.pruner.schedule(replace(run, step=run.total))
        if final is not None and self.pruner.rate > final and trainer.is_global_zero:
            log.warning(
                "already pruned to %.4g, the schedule ends at %g: what is pruned does not come back; resume from a "
                "checkpoint that is not past that rate", self.pruner.rate, final,
            )  # fmt: skip

    def _stepped(self, optimizer: torch.optim.Optimizer) -> None:
        self.pruner.stepped()
        self.pruner.apply(optimizer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        run, before = progress(trainer, steps_done(trainer)), self.pruner.rate
        if self._first:
            self._first = False
            self._check_scores(trainer, run, batch)
        if is_fast_dev_run(trainer) and self.pruner.watches and not trainer.global_step:
            return  # it has watched no step yet
        if not self.pruner.update(run):
            return
        self.pruner.apply(trainer.optimizers[0])
        distributed.check_same(masks := self.pruner.masks, pl_module.device)
        if self.pruner.schedule.is_last(run):
            self._say_rounded()
        self._mask_averages(trainer, pl_module)  # before anyone tests them
        if self.pruner.rate > before:
            notify(trainer, "on_pruned", pl_module, self.pruner, run)
        if self.pruner.masks is not masks:  # shuffled by a callback
            distributed.check_same(self.pruner.masks, pl_module.device)
        self._mask_averages(trainer, pl_module)  # and what was done to them since

    def _check_scores(self, trainer: L.Trainer, run: Progress, batch: Any) -> None:
        """Before the first step, not when pruning is due. Batches that the data module makes for it are not these."""
        ahead = self.pruner.regrow or self.pruner.rate < (self.pruner.schedule(replace(run, step=run.total)) or 0)
        if ahead and not self.pruner.removed and self._loaded is None:
            others = hasattr(getattr(trainer, "datamodule", None), "scoring_batches")
            if self.pruner.batches and not others:
                check_loader(trainer.train_dataloader, self.pruner.batches)
            self.pruner.check_scores(None if others else batch)

    def _say_rounded(self) -> None:
        if changed := self.pruner.rounded:
            log.info(
                "units left, with widths rounded: %s", ", ".join(f"{n} {b} (else {a})" for n, (a, b) in changed.items())
            )

    def _mask_averages(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Only when masks change: an average of zeros stays 0."""
        for copy in averages(trainer, module):
            self.pruner.apply_to_copy(copy)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.pruner.watch()
        self.pruner.mask_gradients()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        counts = self.pruner.unit_counts()
        removed, units = (sum(column) for column in zip(*counts.values(), strict=True))
        pl_module.log("sparsity/all", removed / units, rank_zero_only=True)
        for name, (removed, units) in counts.items():
            pl_module.log(f"units_removed/{name.removesuffix('.weight')}", removed / units, rank_zero_only=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._unhook()
        if is_fast_dev_run(trainer):
            return
        run = progress(trainer, steps_done(trainer))
        due = self.pruner.schedule(replace(run, step=run.total)) or 0.0
        if self.pruner.rate < due:
            log.warning(
                "training ended after %d of %d steps, pruned to %g instead of %g",
                run.step, run.total, self.pruner.rate, due,
            )  # fmt: skip

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit" or not trainer.is_global_zero or not self.pruner.revived_in(pl_module):
            return
        if all(p.isfinite().all() for p in pl_module.parameters()):  # what diverged is no 0 times a mask either
            log.warning(
                "what was pruned to %.4g is no longer 0: another callback has changed weights after the last step, as "
                "averages do; use Lightning's own, whose copies are masked, or leave it out", self.pruner.rate,
            )  # fmt: skip

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._unhook()

    def _unhook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def state_dict(self) -> dict[str, Any]:
        return self.pruner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict


def continues(trainer: L.Trainer, module: L.LightningModule) -> bool:
    """In `setup`: whether this fit goes on with the network, and the masks, of the last one."""
    return any(pruning.pruner.continues(module) for pruning in of_kind(trainer, Pruning))
