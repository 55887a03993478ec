"""Temporary tensors: seen by every module that holds them, and gone without a trace."""

import pytest
import torch
from torch import Tensor, nn

from prunelab.core.network.temporary import temporary_tensors


class Shared(nn.Module):
    """One module under two names, one parameter in two modules, a recurrent layer, and a buffer made by running."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = self.b = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.a.weight
        self.norm, self.rnn = nn.BatchNorm1d(4), nn.LSTM(4, 2)
        self.register_buffer("seen", None)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = torch.ones((), dtype=x.dtype)
        return self.rnn(self.norm(self.tied(self.b(self.a(x)))))[0]


def held(net: nn.Module) -> list[tuple[str, Tensor | None]]:
    """What each slot holds, and each place of the list by which a recurrent layer runs."""
    slots = [(name, t) for m in net.modules() for name, t in [*m._parameters.items(), *m._buffers.items()]]
    return slots + [("flat", w) for m in net.modules() if isinstance(m, nn.LSTM) for w in m._flat_weights]


def doubles(net: nn.Module) -> dict[str, Tensor]:
    tensors = [*net.named_parameters(), *net.named_buffers()]
    return {name: t.detach().clone().double() if t.is_floating_point() else t.clone() for name, t in tensors}


@pytest.mark.parametrize("fails", [False, True])
def test_all_slots_hold_the_same_objects_afterwards_also_after_an_exception(fails: bool) -> None:
    net, x = Shared(), torch.randn(3, 4)
    before, values = held(net), {name: t.clone() for name, t in net.state_dict().items()}
    kinds = [(type(t), t.dtype, t.requires_grad) for _, t in before if t is not None]
    try:
        with temporary_tensors(net, doubles(net)):
            assert net(x.double()).dtype == torch.float64
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    after = held(net)
    assert [(name, id(t)) for name, t in after] == [(name, id(t)) for name, t in before]
    assert [(type(t), t.dtype, t.requires_grad) for _, t in after if t is not None] == kinds
    assert all(torch.equal(t, values[name]) for name, t in net.state_dict().items())


def test_a_shared_tensor_is_replaced_everywhere_and_gets_the_gradient_of_all_its_uses() -> None:
    net = nn.Sequential(shared := nn.Linear(1, 1, bias=False), shared)
    with temporary_tensors(net, {"0.weight": torch.full((1, 1), 3.0, requires_grad=True)}):
        (slope,) = torch.autograd.grad(net(torch.ones(1, 1)), net.get_parameter("0.weight"))
    assert slope.item() == 6.0  # of w^2
    assert shared.weight.grad is None


def test_a_name_that_the_net_does_not_have_is_refused() -> None:
    with pytest.raises(KeyError, match="wieght"), temporary_tensors(nn.Linear(1, 1), {"wieght": torch.zeros(1, 1)}):
        pass
