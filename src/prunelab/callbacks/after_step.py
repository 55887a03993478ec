"""What follows a step of the optimizer."""

from collections.abc import Callable

from torch.optim import Optimizer

from prunelab.core.network.optimizers import with_held


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
