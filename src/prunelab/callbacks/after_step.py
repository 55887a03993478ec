"""What follows a step of the optimizer."""

from collections.abc import Callable

from torch.optim import Optimizer

from prunelab.core.network.optimizers import with_held


class AfterStep:
    """Calls `act(optimizer)` behind each step of `optimizer`, also of one that it holds (SAM), until `remove`.

    A step may run in another: in that of a class which calls `super().step()`, as torch runs the hooks of both once any
    object of the parent class has been made, and in that of an optimizer which steps the one that it holds. Then it is
    called behind both, or, `once`, behind the inner one.
    """

    def __init__(self, optimizer: Optimizer, act: Callable[[Optimizer], None], once: bool = False) -> None:
        self._act, self._once = act, once
        self._due = False  # whether a step has begun and nothing has followed it
        optimizers = with_held(optimizer)
        self._hooks = [each.register_step_pre_hook(lambda *_: self._begin()) for each in optimizers]
        self._hooks += [each.register_step_post_hook(lambda stepped, *_: self._end(stepped)) for each in optimizers]

    def _begin(self) -> None:
        self._due = True

    def _end(self, optimizer: Optimizer) -> None:
        if self._due or not self._once:
            self._due = False
            self._act(optimizer)

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
