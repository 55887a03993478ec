"""Taylor, and so SNIP: first-order change of the loss when a weight is removed."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunelab.core.context import Batch, Context
from prunelab.core.network.prunable import prunable_weights
from prunelab.criteria.taylor import Taylor


def context(net: nn.Module, batches: list[Batch], loss=F.cross_entropy) -> Context:
    return Context(net, prunable_weights(net), torch.Generator(), draw=lambda count, _: batches[:count], loss=loss)


def test_one_layer_by_hand() -> None:
    net = nn.Linear(3, 1, bias=False)
    net.weight.data = torch.tensor([[1.0, -2.0, 0.0]])
    batch = (torch.tensor([[1.0, 2.0, 1.0], [3.0, 0.0, 1.0]]), torch.tensor([[0.0], [1.0]]))
    # errors -3 and 2, so dL/dw = (-3 + 6, -6, -3 + 2) = (3, -6, -1)
    assert Taylor()(context(net, [batch], F.mse_loss))["weight"].tolist() == [[3.0, 12.0, 0.0]]


def test_cross_entropy_by_hand() -> None:
    net = nn.Linear(1, 2, bias=False)
    net.weight.data = torch.tensor([[2.0], [2.0]])
    batch = (torch.tensor([[3.0]]), torch.tensor([1]))  # softmax (1/2, 1/2): slopes (3/2, -3/2)
    assert Taylor()(context(net, [batch]))["weight"].tolist() == [[pytest.approx(3.0)], [pytest.approx(3.0)]]


@pytest.mark.parametrize("count", [1, 2])
def test_snip_is_the_finite_difference_of_scaling_each_weight_down(count: int) -> None:
    """In training mode, where a batch norm takes the statistics of its batch."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)).double().eval()
    batches = [(torch.randn(n, 3, dtype=torch.float64), torch.randint(3, (n,))) for n in (7, 4)]
    result = Taylor(batches=count)(context(net, batches))
    eps = 1e-7

    def loss(name: str = "", j: int = 0) -> float:
        other = copy.deepcopy(net).train()
        with torch.no_grad():
            if name:
                other.get_parameter(name).view(-1)[j] *= 1 - eps
            return sum(F.cross_entropy(other(x), y).item() for x, y in batches[:count]) / count

    assert result.keys() == {"0.weight", "3.weight"}
    for name, score in result.items():
        assert not score.requires_grad
        for j, value in enumerate(score.flatten().tolist()):
            assert value == pytest.approx(abs(loss() - loss(name, j)) / eps, abs=1e-7 + 1e-4 * value)
