"""What follows a step of the optimizer."""

from collections.abc import Callable

import lightning as L
from torch.optim import Optimizer

from prunelab.core.network.optimizers import with_held


def only_optimizer(trainer: L.Trainer, beside: L.Callback) -> Optimizer:
    """The optimizer of the training. Raises ValueError, naming `beside`, for several, and where a module keeps its own.

    Lightning has an idle one in place of one that a module with manual optimization does not return.
    """
    found, name = trainer.optimizers, type(beside).__name__
    if len(found) != 1:
        kinds = ", ".join(type(o).__name__ for o in found) or "none"
        raise ValueError(
            f"{name} works with one optimizer, configure_optimizers returned {len(found)} ({kinds}): put all "
            "parameters into groups of one, or train the networks in turn"
        )
    module, trained = trainer.lightning_module, {id(p) for group in found[0].param_groups for p in group["params"]}
    if not (module.automatic_optimization or trained & set(map(id, module.parameters()))):
        raise ValueError(
            f"{name} follows each step of the optimizer, and configure_optimizers returned none with parameters of "
            f"{type(module).__name__}: return it there, and take it by self.optimizers()"
        )
    return found[0]


class AfterStep:
    """Calls `act(optimizer)` behind each step of `optimizer`, also of one that it holds (SAM), until `remove`.

    A step may run in another: in that of a class which calls `super().step()`, as torch runs the hooks of both once any
    object of the parent class has been made, and in that of an optimizer which steps the one that it holds. Then it is
    called behind each, or, `once`, behind the outermost.
    """

    def __init__(self, optimizer: Optimizer, act: Callable[[Optimizer], None], once: bool = False) -> None:
        self._optimizer, self._act, self._once = optimizer, act, once
        self._running = 0  # steps that have begun and not ended
        optimizers = with_held(optimizer)
        self._hooks = [each.register_step_pre_hook(lambda *_: self._begin()) for each in optimizers]
        self._hooks += [each.register_step_post_hook(lambda *_: self._end()) for each in optimizers]

    def _begin(self) -> None:
        self._running += 1

    def _end(self) -> None:
        self._running -= 1
        if self._running <= 0 or not self._once:
            self._act(self._optimizer)

    def forget_failed(self) -> None:
        """To be called between two steps: one that raised, and was caught, is not waited for."""
        self._running = 0

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
