"""What is a filter made of? Its weights, its bias, and the norm that is really fed by it."""

import pytest
import torch
from torch import Tensor, nn

from prunelab.core.granularity import Filter, Weight
from prunelab.core.select import prunable_weights


class Crossed(nn.Module):
    """Norms that neither order nor name would pair with their convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.bn_b = nn.BatchNorm2d(4)
        self.bn_a = nn.BatchNorm2d(4)
        self.a = nn.Conv2d(3, 4, 3, bias=False)
        self.b = nn.Conv2d(4, 4, 3)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.bn_b(self.b(torch.relu(self.bn_a(self.a(x)))))))


def bound(net: nn.Module, example: Tensor | None = None) -> Filter:
    return Filter().bind(net, prunable_weights(net), example)


def test_filters_are_found_with_bias_and_the_norm_that_takes_their_output() -> None:
    assert bound(Crossed(), torch.zeros(1, 3, 8, 8)).partners == {
        "a.weight": ("bn_a.weight", "bn_a.bias"),
        "b.weight": ("b.bias", "bn_b.weight", "bn_b.bias"),
        "last.weight": ("last.bias",),
    }


def test_a_filter_scores_the_sum_of_its_weights() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 2))
    scores = {"0.weight": torch.tensor([[[[1.0, 2], [3, 4]]], [[[0, 0], [0, 5]]]])}
    assert bound(net).reduce(scores)["0.weight"].tolist() == [10.0, 5.0]


def test_a_masked_filter_is_silent_whatever_bias_and_shift_it_had() -> None:
    torch.manual_seed(0)
    net = Crossed()
    for p in net.parameters():
        nn.init.normal_(p)
    filters = bound(net, torch.zeros(1, 3, 8, 8))
    keep = {name: torch.tensor([i != 1 for i in range(shape[0])]) for name, shape in filters.shapes.items()}
    with torch.no_grad():
        for name, mask in filters.expand(keep).items():
            net.get_parameter(name).mul_(mask)
    seen: dict[str, Tensor] = {}
    for name in ("bn_a", "bn_b", "last"):
        net.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
    net.train()(torch.randn(5, 3, 8, 8))
    for out in seen.values():
        assert torch.equal(out[:, 1], torch.zeros_like(out[:, 1]))
        assert out[:, 0].abs().sum() > 0


def test_a_norm_behind_two_convolutions_lives_while_either_filter_does() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.bn = (
                nn.Conv2d(3, 2, 1, bias=False),
                nn.Conv2d(3, 2, 1, bias=False),
                nn.BatchNorm2d(2),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(self.a(x)) + self.bn(self.b(x))

    filters = bound(Shared(), torch.zeros(1, 3, 4, 4))
    masks = filters.expand({"a.weight": torch.tensor([True, False]), "b.weight": torch.tensor([False, False])})
    assert masks["bn.weight"].tolist() == [True, False]


def test_a_sum_made_in_place_is_not_taken_for_the_convolutions_own_output() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.bn = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            out = self.b(x)
            out += x
            return self.bn(out)

    assert bound(Residual(), torch.zeros(1, 3, 4, 4)).partners == {"a.weight": (), "b.weight": ()}


def test_looking_at_a_net_leaves_modes_buffers_and_random_streams_alone() -> None:
    net = Crossed()
    net.a.eval()
    before = {name: b.clone() for name, b in net.named_buffers()}
    modes = [m.training for m in net.modules()]
    rng = torch.get_rng_state()
    bound(net, torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert modes == [m.training for m in net.modules()]
    assert all(torch.equal(b, before[name]) for name, b in net.named_buffers())
    assert torch.equal(rng, torch.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_a_net_with_norms_needs_an_example_and_says_how() -> None:
    with pytest.raises(ValueError, match="set example_input_array"):
        bound(Crossed())


def test_a_net_without_convolutions_has_no_filters() -> None:
    with pytest.raises(ValueError, match="Linear: no filters to prune"):
        bound(nn.Linear(3, 2))


def test_single_weights_are_their_own_units() -> None:
    scores = {"w": torch.rand(2, 3)}
    assert Weight().reduce(scores) is scores
    assert Weight().expand(scores) is scores
