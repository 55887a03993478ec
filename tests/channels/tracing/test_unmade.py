"""Weights that make no channels are named, with the layer that computes them or the operation that has no rule."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from prunelab.channels.tracing.graph import channel_graph
from prunelab.channels.tracing.unmade import UNUSED
from prunelab.channels.units import Channels
from prunelab.core.network.prunable import prunable_weights

X = torch.zeros(2, 3, 8, 8)


class Net(nn.Module):
    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.head, self.aux = first, nn.Conv2d(16, 8, 3), nn.Linear(8, 5), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)).mean((2, 3)))


class Doubled(nn.Conv2d):
    """Computes its weight, as layers of quantization-aware training."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, 2 * self.weight, self.bias)


class Product(nn.Module):
    """As Conv1D of Transformers: a weight of its own, in an operation without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 16))

    def forward(self, x: Tensor) -> Tensor:
        return (x.transpose(1, -1) @ self.w).transpose(1, -1)


def pruned() -> nn.Module:
    return prune.l1_unstructured(nn.Conv2d(3, 16, 3), "weight", 0.5)


V = "parametrizations.weight.original1"
NAMED = {
    "weight norm": (lambda: weight_norm(nn.Conv2d(3, 16, 3)), V, "aten.conv2d with a computed weight, called in first"),
    "masks of torch": (pruned, "weight_orig", "aten.conv2d with a computed weight, called in first (Conv2d)"),
    "computed in forward": (lambda: Doubled(3, 16, 3), "weight", "aten.conv2d with a computed weight, called in first"),
    "an operation without a rule": (Product, "w", "aten.matmul, called in first (Product)"),
}


@pytest.mark.filterwarnings("ignore:The tensor attribute .* was assigned during export")
@pytest.mark.parametrize(("build", "weight", "why"), NAMED.values(), ids=NAMED)
def test_weights_that_make_no_channels_are_named_in_the_graph_and_in_the_log(
    build, weight: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    net = Net(build())
    assert channel_graph(net, X).stays[f"first.{weight}"].startswith(why)
    units = Channels().bind(net, prunable_weights(net), X)
    assert list(units.numbers) == ["second.weight"]
    assert any(f"first.{weight}" in line and f"stay: {why}" in line for line in caplog.messages)


def test_layers_that_forward_does_not_use_are_named_and_skipped_ones_need_no_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    net = Net(nn.Conv2d(3, 16, 3))
    units = Channels().bind(net, prunable_weights(net), X)
    assert units.unused == ["aux.weight"]
    assert f"channels of aux.weight stay: {UNUSED}" in caplog.messages
    caplog.clear()
    Channels().bind(net, prunable_weights(net, ["aux*"]), X)
    assert "stay" not in caplog.text


def test_a_bare_weight_of_a_convolution_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(16, 3, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.w)

    net = Net(Bare())
    assert list(Channels().bind(net, prunable_weights(net), X).numbers) == ["second.weight"]
    assert "channels of first.w stay: no layer of a kind that is pruned holds them" in caplog.messages
