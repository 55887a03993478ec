"""A network that cannot take channels_last trains in contiguous memory, whichever step would break."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from prunelab.job.memory_format import to_channels_last

EXAMPLE = torch.zeros(2, 3, 8, 8)


class Flat(nn.Module):
    """Flattens by `flat`; if `only` says so, in training alone, or in evaluation alone."""

    def __init__(self, flat: Callable[[Tensor], Tensor], only: bool | None = None) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(256, 10)
        self.flat, self.only = flat, only

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return self.fc(self.flat(x) if self.only in (None, self.training) else x.flatten(1))


class Backwards(torch.autograd.Function):
    """The identity, whose gradient is seen by `.view`."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad.view(-1).view(grad.shape)


def view(x: Tensor) -> Tensor:
    return x.view(x.size(0), -1)


def asserts(x: Tensor) -> Tensor:
    assert x.is_contiguous()
    return x.flatten(1)


@pytest.mark.parametrize(
    ("net", "takes"),
    [
        (Flat(lambda x: x.flatten(1)), True),
        (Flat(lambda x: x.reshape(len(x), -1)), True),
        (Flat(view), False),
        (Flat(view, only=True), False),
        (Flat(view, only=False), False),
        (Flat(asserts), False),
        (Flat(lambda x: nn.functional.max_pool2d(Backwards.apply(x), 1).flatten(1)), False),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).requires_grad_(False), True),
    ],
    ids=["flatten", "reshape", "view", "training", "evaluation", "asserts", "backward", "frozen"],
)
def test_the_format_is_the_one_that_every_step_takes(net: nn.Module, takes: bool) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    random = torch.get_rng_state()
    assert (to_channels_last(net, EXAMPLE) == "") == takes
    kept = torch.channels_last if takes else torch.contiguous_format
    assert all(p.is_contiguous(memory_format=kept) for p in net.parameters() if p.dim() == 4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert net.training
    assert all(p.grad is None for p in net.parameters())
