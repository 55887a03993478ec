"""Removes masked units from the network, while any LightningModule trains."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from prunelab.callbacks.averages import averages
from prunelab.callbacks.heads import refuse_outside
from prunelab.callbacks.inputs import training_batch, training_inputs
from prunelab.callbacks.neighbours import of_kind
from prunelab.callbacks.pruning import Pruning, continues
from prunelab.callbacks.scoring import progress
from prunelab.channels.equivalence.certificate import Certificate, EquivalenceCheck
from prunelab.channels.equivalence.rehearsal import rehearse
from prunelab.channels.equivalence.trial import copied
from prunelab.channels.plan import Plan
from prunelab.channels.surgery import shrink
from prunelab.channels.units import Channels, prunable_structure
from prunelab.core.dry_run import dry_run
from prunelab.core.pruner import Pruner
from prunelab.core.time import Progress
from prunelab.core.types import Example
from prunelab.measure.compile_time import drop_graphs

log = logging.getLogger(__name__)


class Shrink(L.Callback):
    """After the last pruning the network becomes small, and training continues at the small network's speed.

    Parameters keep their identity; the optimizer's state, averaged copies in other callbacks (EMA) and the compiled
    graph are adapted. Outputs of the small and the masked network are compared on `images` training images, and a
    difference ends the training in EquivalenceError; it is rehearsed on a copy, with random inputs, before the first
    step. So is a training step, where layers are used outside of forward. Images are found in batches of any form by
    the shapes of the example; where there are none, inputs are random, and the log says so. Checkpoints from before and
    after resume. Listed after the others that prune, beside one Pruning callback whose units can be removed;
    anything else is a ValueError before training. On several devices the network becomes small when training ends, as
    DistributedDataParallel cannot follow.
    """

    removes_units: ClassVar[bool] = True

    def __init__(self, images: int = 16) -> None:
        self.images = images
        self.plan: Plan | None = None  # of what was removed, in the names of the LightningModule
        self.certificate: Certificate | None = None
        self.step: int | None = None  # optimizer steps before the network became small
        self._rehearsed: L.LightningModule | None = None  # since the last training
        self._hook: Any = None  # the module instance's own on_load_checkpoint, if it has one

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit" and not continues(trainer, pl_module):
            self.plan = self.certificate = self.step = None
        # Lightning loads the network's state before that of callbacks; this hook of the module runs before both.
        self._hook = pl_module.__dict__.get("on_load_checkpoint")
        hook = pl_module.on_load_checkpoint
        pl_module.on_load_checkpoint = self._rebuild_before(hook, trainer, pl_module)  # type: ignore[method-assign, assignment]

    def _rebuild_before(
        self, hook: Callable[[dict[str, Any]], None], trainer: L.Trainer, module: L.LightningModule
    ) -> Callable[[dict[str, Any]], None]:
        def on_load_checkpoint(checkpoint: dict[str, Any]) -> None:
            plan = checkpoint.get("callbacks", {}).get(self.state_key, {}).get("plan")
            if not _fits(module, checkpoint["state_dict"]):
                if plan is None:
                    raise ValueError(
                        f"the checkpoint holds a larger {type(module).__name__}, from before its channels were "
                        "removed, or another one: load it into a new module"
                    )
                for net in [module, *averages(trainer, module)]:
                    shrink(net, Plan.from_json(plan))
            hook(checkpoint)

        return on_load_checkpoint

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._unhook(pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._unhook(pl_module)

    def _unhook(self, pl_module: L.LightningModule) -> None:
        pl_module.__dict__.pop("on_load_checkpoint", None)
        if self._hook is not None:
            pl_module.__dict__["on_load_checkpoint"], self._hook = self._hook, None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pruners = [pruning.pruner for pruning in of_kind(trainer, Pruning)]
        self.check(pruners)
        if of_kind(trainer, StochasticWeightAveraging):
            raise ValueError("StochasticWeightAveraging keeps a copy that Shrink cannot adapt: use EMAWeightAveraging")
        if self._several(trainer):
            log.warning("under DDP the network stays masked and large until training ends")
        example = pl_module.example_input_array
        assert isinstance(example, torch.Tensor | tuple)  # Pruning has refused others
        if self._rehearsed is not pl_module:
            self.rehearse(pl_module, example, pruners[0], progress(trainer, step=0))
        self._rehearsed = None
        self._try_heads(trainer, pl_module, pruners[0])

    @staticmethod
    def check(pruners: Sequence[Pruner]) -> None:
        """Raises ValueError unless there is one pruner, whose units can be removed."""
        if len(pruners) != 1 or prunable_structure(pruners[0].granularity) is None:
            kinds = ", ".join(type(p.granularity).__name__ for p in pruners) or "no Pruning callback"
            raise ValueError(
                f"Shrink removes filters, neurons or blocks, and there is {kinds}: use Filter() "
                "(prune/granularity=filter on the command line), or leave Shrink out (~prune.shrink there)"
            )

    def rehearse(self, module: L.LightningModule, example: Example, pruner: Pruner, run: Progress) -> None:
        """Removes from a copy of `module` as many units as the run will. Raises as channels/equivalence/rehearsal.py.

        The certificate comes after training, and what it refuses was trained for nothing. The next training of
        `module` does not rehearse again.
        """
        self._rehearsed = module
        structure, final = prunable_structure(pruner.granularity), self._final(pruner, run)
        if not final:
            return
        assert structure is not None
        if (small := copied(module)) is not None:
            small._trainer = module._trainer  # which a copy of a LightningModule has not
            rehearse(small, structure, dry_run(pruner, final), example)

    def _try_heads(self, trainer: L.Trainer, module: L.LightningModule, pruner: Pruner) -> None:
        units, final = pruner.granularity, self._final(pruner, progress(trainer, step=0))
        if isinstance(units, Channels) and final and units.unused and (batch := training_batch(trainer)) is not None:
            refuse_outside(module, units, dry_run(pruner, final), batch)

    @staticmethod
    def _final(pruner: Pruner, run: Progress) -> float:
        """The rate that is still to be met when the network is cut; 0 where that is done."""
        return 0.0 if pruner.removed else pruner.schedule(replace(run, step=run.total)) or 0.0

    def on_pruned(self, trainer: L.Trainer, pl_module: L.LightningModule, pruner: Pruner, run: Progress) -> None:
        """Called by Pruning when it has changed the masks, before the next step."""
        if pruner.schedule.is_last(run) and not self._several(trainer):
            self._shrink(trainer, pl_module, pruner)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for pruning in of_kind(trainer, Pruning):
            if pruning.pruner.masks and self._several(trainer):
                self._shrink(trainer, pl_module, pruning.pruner)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.on_train_end(trainer, pl_module)  # which is not called when a checkpoint leaves nothing to train

    def _several(self, trainer: L.Trainer) -> bool:
        """Whether other processes train copies of the network, or the strategy expects that."""
        return trainer.world_size > 1 or isinstance(trainer.strategy, DDPStrategy)

    def _shrink(self, trainer: L.Trainer, module: L.LightningModule, pruner: Pruner) -> None:
        structure = prunable_structure(pruner.granularity)
        assert structure is not None
        plan = structure.plan(pruner.keep)
        example: Any = module.example_input_array  # a tensor or a tuple: Pruning has refused others
        check = EquivalenceCheck(module, training_inputs(trainer, example, self.images))
        before = _parameters(module)
        shrink(module, plan, trainer.optimizers)
        for average in averages(trainer, module):
            shrink(average, plan)
        self.plan, self.step = plan, trainer.global_step
        pruner.detach_masks()
        self.certificate = check.certify(module)
        drop_graphs()  # drops the graph of the large network
        log.info(
            "removed masked units: %s of %s parameters left; outputs match (max difference %.1e eval, %.1e train)",
            f"{_parameters(module):,}", f"{before:,}", self.certificate.eval_float32, self.certificate.train_float32,
        )  # fmt: skip

    def plan_below(self, prefix: str) -> Plan:
        """What was removed from the submodule `prefix`, in its own names."""
        return self.plan.below(prefix) if self.plan else Plan()

    def state_dict(self) -> dict[str, Any]:
        certificate = self.certificate.to_json() if self.certificate else None
        return {"plan": self.plan.to_json() if self.plan else None, "certificate": certificate, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.plan = Plan.from_json(state_dict["plan"]) if state_dict["plan"] else None
        self.certificate = Certificate(**state_dict["certificate"]) if state_dict["certificate"] else None
        self.step = state_dict.get("step")  # absent from checkpoints of 0.1.0


def _fits(module: nn.Module, saved: dict[str, torch.Tensor]) -> bool:
    state = module.state_dict()
    return state.keys() == saved.keys() and all(state[name].shape == saved[name].shape for name in state)


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
