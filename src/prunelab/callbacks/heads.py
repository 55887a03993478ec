"""Layers that only training_step applies, outside of forward: what they read may be cut from under them."""

import logging
from collections.abc import Sequence
from inspect import signature
from typing import Any

import lightning as L
import torch

from prunelab.channels.equivalence.proof import bisect
from prunelab.channels.equivalence.trial import copied
from prunelab.channels.surgery import shrink
from prunelab.channels.units import Channels
from prunelab.core.network.preserve import preserve_state
from prunelab.core.network.torch_export import error_summary
from prunelab.core.numbers.seeding import seeded_python
from prunelab.core.types import Masks

log = logging.getLogger(__name__)


def refuse_outside(module: L.LightningModule, units: Channels, keep: Masks, batch: Any) -> None:
    """Raises ValueError where a training step on `batch` does not run without the units that are False in `keep`.

    Tried on copies, whose `log` does nothing, with no step of an optimizer. Where the module's optimization is manual,
    so that training_step itself would step, and where it does not run on an uncut copy, the log says that it was not
    tried.
    """
    heads = ", ".join(units.unused[:3]) + (f" and {len(units.unused) - 3} more" if len(units.unused) > 3 else "")

    def failure(names: Sequence[str]) -> str | None:
        return _failure(module, units, {name: keep[name] for name in names}, batch)

    why = failure(tuple(keep)) if module.automatic_optimization else "its optimization is manual"
    if why is None:
        return
    if not module.automatic_optimization or failure(()):
        log.warning("forward does not use %s: whether training_step does after surgery is not tried: %s", heads, why)
        return
    faults: dict[str, str] = {}
    bisect((), tuple(keep), failure, faults)
    raise ValueError(
        f"training_step does not run after surgery: {why}. Forward does not use {heads}, so what that reads is not "
        f"known: let forward call it, or keep the channels by skip={[name.partition('#')[0] for name in faults]}"
    )


def _failure(module: L.LightningModule, units: Channels, keep: Masks, batch: Any) -> str | None:
    trial = copied(module)
    if trial is None:
        return None
    shrink(trial, units.plan(keep))
    trial._trainer = module._trainer
    for log_nothing in ("log", "log_dict"):
        setattr(trial, log_nothing, lambda *args, **kwargs: None)
    arguments = (batch, 0)[: len(signature(trial.training_step).parameters)]
    with (
        preserve_state(trial, training=True),
        seeded_python(),
        torch.compiler.set_stance("force_eager"),
        module.trainer.precision_plugin.train_step_context(),
    ):
        try:
            trial.training_step(*arguments)
        except Exception as error:  # the module's own code may raise anything
            return error_summary(error)
    return None
