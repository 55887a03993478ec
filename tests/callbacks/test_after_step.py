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
    assert stepped(Sam(weights()), once=True) == ["SGD"]
    assert stepped(Sam(weights()), once=False) == ["SGD", "Sam"]


def test_a_step_of_the_held_optimizer_alone_counts() -> None:
    optimizer, seen = Sam(weights()), []
    AfterStep(optimizer, lambda o: seen.append(type(o).__name__), once=True)
    optimizer.base_optimizer.step()
    optimizer.base_optimizer.step()
    assert seen == ["SGD", "SGD"]


def test_a_step_that_fails_is_not_waited_for() -> None:
    optimizer, seen = torch.optim.SGD(weights(), 0.1), []
    AfterStep(optimizer, seen.append, once=True)

    def fails() -> float:
        raise MemoryError

    try:
        optimizer.step(fails)
    except MemoryError:
        optimizer.step()
    assert seen == [optimizer]
