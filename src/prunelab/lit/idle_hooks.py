"""Leaves out what Lightning spends at every step on hooks that nobody has written and profiles that nobody reads."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
from lightning.pytorch.profilers import PassThroughProfiler

STEP = (
    "on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step", "on_train_batch_end", "on_validation_batch_start", "on_validation_batch_end",
)  # fmt: skip


class NoProfiler(PassThroughProfiler):
    """Profiles nothing, as Lightning's default, without a generator for each of some eighty calls a step."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override]
        return self._nothing


def skip_idle_hooks(trainer: L.Trainer) -> None:
    """Of the hooks of a step, only those that a callback has are called: Lightning passes over what is not callable."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for hook in STEP:
            if getattr(getattr(callback, hook), "__func__", None) is getattr(L.Callback, hook):
                setattr(callback, hook, None)
