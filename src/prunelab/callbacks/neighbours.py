"""The other callbacks of a Trainer: finding them, checking their order, calling their hooks."""

from dataclasses import replace
from typing import Any, TypeVar

import lightning as L

from prunelab.core.pruner import Pruner
from prunelab.core.time import Progress

C = TypeVar("C", bound=L.Callback)


def of_kind(trainer: L.Trainer, kind: type[C]) -> list[C]:
    """The callbacks of this kind, in their order."""
    return [callback for callback in trainer.callbacks if isinstance(callback, kind)]  # type: ignore[attr-defined]


def only(trainer: L.Trainer, kind: type[C], beside: L.Callback) -> C | None:
    """The one callback of this kind, or None. Raises ValueError, naming `beside`, where there are several."""
    matches = of_kind(trainer, kind)
    if len(matches) > 1:
        name, many = type(beside).__name__, len(matches)
        raise ValueError(f"{name} works beside one {kind.__name__} callback, there are {many}: leave one of them")
    return matches[0] if matches else None


def check_first(trainer: L.Trainer, callback: L.Callback, *kinds: type[L.Callback], why: str) -> None:
    """Raises ValueError where one of `kinds` is listed before `callback`."""
    callbacks, name = of_kind(trainer, L.Callback), type(callback).__name__
    for other in callbacks[: callbacks.index(callback)]:
        if isinstance(other, kinds):
            raise ValueError(f"{type(other).__name__} comes before {name}, {why}: list {name} first")


def check_last(trainer: L.Trainer, callback: L.Callback, *kinds: type[L.Callback], why: str) -> None:
    """Raises ValueError where one of `kinds` is listed after `callback`."""
    callbacks = of_kind(trainer, L.Callback)
    for other in callbacks[callbacks.index(callback) :]:
        if isinstance(other, kinds):
            name = type(other).__name__
            raise ValueError(f"{name} comes after {type(callback).__name__} {why}: list {name} before it")


def notify(trainer: L.Trainer, hook: str, *args: Any) -> None:
    """Calls `hook(trainer, *args)` of all callbacks that have it."""
    for callback in of_kind(trainer, L.Callback):
        if hasattr(callback, hook):
            getattr(callback, hook)(trainer, *args)


def is_last_pruning_ahead(pruner: Pruner, run: Progress, untrained: str) -> bool:
    """Whether the last pruning is still to come. Raises ValueError, with `untrained`, if no step precedes it."""
    final = pruner.schedule(replace(run, step=run.total)) or 0.0
    if 0 < final <= (pruner.schedule(replace(run, step=0)) or 0.0):
        raise ValueError(
            f"pruned to rate={final} before the first step, {untrained}: "
            "start the schedule later, as with prune.pruning.pruner.schedule.start=0.5"
        )
    return pruner.rate < final
