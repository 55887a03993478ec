"""What follows a step, where classes and optimizers step within each other."""

import torch
from sam import Sam
from torch import nn

from prunelab.callbacks.after_step import AfterStep


class Sgd(torch.optim.SGD):
    def step(self, closure=None):
        return super().step(closure)


def stepped(optimizer: torch.optim.Optimizer, once: bool) -> list[str]:
    """What was called behind one step, by the class of the optimizer."""
    seen: list[str] = []
    after = AfterStep(optimizer, lambda o: seen.append(type(o).__name__), once)
    p = optimizer.param_groups[0]["params"][0]

    def closure() -> float:
        p.grad = torch.ones_like(p)
        return 0.0

    optimizer.step(closure)
    after.remove()
    optimizer.step(closure)
    return seen


def weights() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(2))]


def test_a_class_that_steps_its_parent_counts_once_whatever_was_made_before() -> None:
    """torch runs the hooks of a parent's step too once an object of that class has been made."""
    torch.optim.SGD(weights(), 0.1)
    assert stepped(Sgd(weights(), 0.1), once=True) == ["Sgd"]
    assert stepped(torch.optim.SGD(weights(), 0.1), once=True) == ["SGD"]


def test_an_optimizer_that_steps_another_counts_once_or_behind_both() -> None:
    assert stepped(Sam(weights()), once=True) == ["Sam"]
    assert stepped(Sam(weights()), once=False) == ["Sam", "Sam"]


def test_a_step_of_the_held_optimizer_alone_counts() -> None:
    optimizer, seen = Sam(weights()), []
    AfterStep(optimizer, lambda o: seen.append(type(o).__name__), once=True)
    optimizer.base_optimizer.step()
    optimizer.base_optimizer.step()
    assert seen == ["Sam", "Sam"]  # whose state is of the same parameters


def test_what_follows_a_step_follows_all_of_it() -> None:
    """Also what a class does behind the step of its parent, or an optimizer behind that of the one which it holds."""

    class Pulling(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure=None):
            super().step(closure)
            for p in self.param_groups[0]["params"]:
                p.add_(1)

    class Lookahead(torch.optim.Optimizer):
        def __init__(self, params) -> None:
            super().__init__(params, {})
            self.inner = torch.optim.SGD(self.param_groups, 0.1)
            self.inner.owner = self

        @torch.no_grad()
        def step(self, closure=None):
            self.inner.step(closure)
            for p in self.param_groups[0]["params"]:
                p.add_(1)

    torch.optim.SGD(weights(), 0.1)
    for optimizer in (Pulling(weights(), 0.1), Lookahead(weights())):
        p, seen = optimizer.param_groups[0]["params"][0], []
        p.grad = torch.zeros_like(p)
        AfterStep(optimizer, lambda _, p=p, seen=seen: seen.append(p.sum().item()), once=True)
        optimizer.step()
        assert seen == [2.0]


def test_a_step_that_fails_is_not_waited_for() -> None:
    optimizer, seen = torch.optim.SGD(weights(), 0.1), []
    after = AfterStep(optimizer, seen.append, once=True)

    def fails() -> float:
        raise MemoryError

    try:
        optimizer.step(fails)
    except MemoryError:
        after.forget_failed()
        optimizer.step()
    assert seen == [optimizer]
