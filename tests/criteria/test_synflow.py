"""SynFlow: brute force over all paths, conservation between layers, and no layer dies."""

import copy
import logging
from collections.abc import Callable
from itertools import pairwise, product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.core.allocation import Global
from prunelab.core.context import Context
from prunelab.core.granularity import Weight
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.core.types import Example
from prunelab.criteria.synflow import SynFlow


def mlp(*widths: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b, bias=False), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def score(net: nn.Module, example: Example | None) -> dict[str, Tensor]:
    return SynFlow()(Context(net, prunable_weights(net), torch.Generator(), example))


def test_a_weight_scores_the_product_of_each_path_through_it() -> None:
    net = mlp(3, 4, 2, 3)
    weights = [p.detach().double().abs() for p in net.parameters()]
    expected = [torch.zeros_like(w) for w in weights]
    for path in product(range(3), range(4), range(2), range(3)):
        edges = [(b, a) for a, b in pairwise(path)]
        value = torch.stack([w[edge] for w, edge in zip(weights, edges, strict=True)]).prod()
        for total, edge in zip(expected, edges, strict=True):
            total[edge] += value
    assert any((p < 0).any() for p in net.parameters())
    for result, total in zip(score(net, torch.randn(5, 3)).values(), expected, strict=True):
        assert not result.requires_grad
        torch.testing.assert_close(result, total, rtol=1e-12, atol=0)


def conv_net() -> nn.Module:
    torch.manual_seed(0)
    convs = [nn.Conv2d(2, 5, 3, bias=False), nn.ReLU(), nn.Conv2d(5, 3, 3, padding=1, bias=False), nn.ReLU()]
    return nn.Sequential(*convs, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 4, bias=False))


@pytest.mark.parametrize(("net", "shape"), [(mlp(6, 9, 9, 2), (6,)), (conv_net(), (2, 6, 6))])
def test_without_biases_the_scores_of_every_layer_add_up_to_the_flow(net: nn.Module, shape: tuple[int, ...]) -> None:
    positive = copy.deepcopy(net).double()
    with torch.no_grad():
        for p in positive.parameters():
            p.abs_()
        flow = positive(torch.ones(1, *shape, dtype=torch.float64)).sum().item()
    result = score(net, torch.randn(3, *shape))
    assert len(result) == 3
    assert all(s.sum().item() == pytest.approx(flow, rel=1e-12) for s in result.values())


def test_biases_count_by_their_absolute_value() -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    for p, value in zip(net.parameters(), (-2.0, -3.0, -5.0, 7.0), strict=True):
        p.data.fill_(value)
    # R = 5 * (2 * 1 + 3) + 7
    assert {n: s.item() for n, s in score(net, torch.zeros(1, 1)).items()} == {"0.weight": 10.0, "1.weight": 25.0}


def test_a_norm_flows_by_its_running_variance_with_a_mean_of_zero() -> None:
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1, eps=0.0), nn.Linear(1, 1, bias=False))
    for p, value in zip(net.parameters(), (2.0, -3.0, -1.0, 5.0), strict=True):
        p.data.fill_(value)
    net[1].running_mean.fill_(10.0)
    net[1].running_var.fill_(4.0)
    # R = 5 * (2 / sqrt(4) * 3 + 1) = 20, of which 15 come through the first layer
    assert {n: s.item() for n, s in score(net, torch.zeros(1, 1)).items()} == {"0.weight": 15.0, "2.weight": 20.0}


def test_a_deep_net_whose_flow_leaves_float32_has_finite_scores_and_keeps_every_layer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    net = mlp(*[64] * 201)
    scores = score(net, torch.zeros(1, 64))
    totals = torch.stack([s.sum() for s in scores.values()])
    assert len(totals) == 200
    assert totals.isfinite().all()
    assert totals.min() > torch.finfo(torch.float32).max
    torch.testing.assert_close(totals, totals[0].expand(200), rtol=1e-10, atol=0)
    pruner = Pruner(SynFlow(), Weight(), Global(), Rounds(rate=0.5, start=0.0))
    pruner.attach(net, torch.zeros(1, 64))
    pruner.update(Progress(0, total=10, epoch=10))
    assert "empties" not in caplog.text
    assert sum(gone for gone, _ in pruner.unit_counts().values()) == 200 * 64 * 64 // 2


def test_a_flow_beyond_float64_is_refused() -> None:
    net = mlp(*[64] * 41)
    for p in net.parameters():
        p.data.mul_(1e9)
    with pytest.raises(ValueError, match="the flow through Sequential is inf, beyond float64"):
        score(net, torch.zeros(1, 64))


def test_without_an_example_the_remedy_is_named() -> None:
    with pytest.raises(ValueError, match="set example_input_array"):
        score(mlp(2, 2), None)


def test_a_net_of_several_inputs_takes_a_tuple_as_example() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 1, bias=False), nn.Linear(3, 1, bias=False)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.a(x) + self.b(y)

    net = Two()
    for name, result in score(net, (torch.zeros(4, 2), torch.zeros(4, 3))).items():
        torch.testing.assert_close(result, net.get_parameter(name).detach().double().abs())


def test_a_scoring_leaves_no_trace_in_the_net() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten(), nn.Linear(12, 2))
    net(torch.randn(4, 2, 4, 4)).sum().backward()
    net[1].eval()
    net[0].bias.grad = None
    net[4].weight.requires_grad_(False)

    def traces() -> list[Tensor]:
        flags = [m.training for m in net.modules()] + [p.requires_grad for p in net.parameters()]
        grads = [p.grad.clone() for p in net.parameters() if p.grad is not None]
        state = [t.clone() for t in net.state_dict().values()]
        return [torch.get_rng_state(), torch.tensor([*flags, torch.is_grad_enabled()]), *grads, *state]

    types, before = [p.dtype for p in net.parameters()], traces()
    score(net, torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0)))
    after = traces()
    assert len(before) == len(after) > 12
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert types == [p.dtype for p in net.parameters()]


def test_a_module_under_two_names_scores_the_sum_of_its_uses_and_stays_as_it_was() -> None:
    shared = nn.Linear(1, 1, bias=False)
    shared.weight.data.fill_(-3.0)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    before = shared.weight
    assert score(net, torch.zeros(1, 1))["0.weight"].item() == 18.0  # w * dR/dw of R = w^2
    assert shared.weight is before
    assert shared.weight.item() == -3.0


def lopsided() -> nn.Sequential:
    """Of 1140 weights 900 are in the middle, so that each of them has little of the flow."""
    net = mlp(4, 30, 30, 4)
    g = torch.Generator().manual_seed(0)
    for p in net.parameters():
        p.data = 0.5 + torch.rand(p.shape, generator=g)
    return net


def test_a_hundred_passes_keep_a_layer_alive_that_one_pass_empties(caplog: pytest.LogCaptureFixture) -> None:
    def prune(passes: int) -> tuple[dict[str, tuple[int, int]], float]:
        net = lopsided()
        pruner = Pruner(SynFlow(), Weight(), Global(), Rounds(rate=0.9, start=0.0), passes=passes)
        pruner.attach(net, torch.zeros(1, 4))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            pruner.update(Progress(0, total=10, epoch=10))
        assert sum(gone for gone, _ in pruner.unit_counts().values()) == round(0.9 * 1140)
        with torch.no_grad():
            return pruner.unit_counts(), net(torch.ones(1, 4)).sum().item()

    counts, _ = prune(1)
    assert "empties 2.weight" in caplog.text
    assert counts["2.weight"] == (899, 900)  # Global holds on to the last one
    counts, flow = prune(100)
    assert "empties" not in caplog.text
    assert all(n - gone > 10 for gone, n in counts.values())
    assert flow > 0


class Net(nn.Module):
    """Two convolutions, a linear layer and what comes after the first two."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head = nn.Conv2d(2, 5, 3), nn.Conv2d(5, 3, 3), nn.Linear(3, 4)
        for p in self.parameters():
            p.data *= 30  # far into saturation
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.activation(self.b(self.activation(self.a(x)))).mean((2, 3)))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **{kind.__name__: kind() for kind in (nn.ReLU6, nn.Hardswish, nn.Hardtanh, nn.Tanh, nn.GELU, nn.SiLU, nn.Mish)},
    "in place": nn.ReLU6(inplace=True),
    "by function": F.relu6,
    "by method": lambda x: x.tanh(),
    "x * sigmoid(x) by hand": lambda x: x * torch.sigmoid(x),
    "a gate in place": lambda x: x.clone().mul_(F.hardsigmoid(x)),
}


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_an_activation_scores_as_relu_which_is_linear_on_positive_inputs(activation: Callable) -> None:
    example = torch.zeros(1, 2, 8, 8)
    result, expected = score(Net(activation), example), score(Net(F.relu), example)
    for name in ("a.weight", "b.weight", "head.weight"):
        assert expected[name].all()
        torch.testing.assert_close(result[name], expected[name], rtol=1e-12, atol=0)


@pytest.mark.parametrize("sigmoid", [nn.Sigmoid(), nn.Hardsigmoid(), torch.sigmoid])
def test_a_gate_is_open_and_has_half_of_the_flow_that_it_gates(sigmoid: Callable) -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.gate, self.b = (nn.Linear(1, 1, bias=False) for _ in range(3))
            for p, value in zip(self.parameters(), (-2.0, 300.0, 5.0), strict=True):
                p.data.fill_(value)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.b(x * sigmoid(self.gate(x)))

    scores = score(Gated(), torch.zeros(1, 1))
    # R = 2 * 1 * 5: all of it comes through a, half of that by way of the gate
    assert {n: s.item() for n, s in scores.items()} == {"a.weight": 10.0, "gate.weight": 5.0, "b.weight": 10.0}


def test_a_gate_without_inputs_leaves_finite_scores() -> None:
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Sigmoid(), nn.Linear(2, 2, bias=False))
    net[0].weight.data[0] = 0
    assert all(s.isfinite().all() for s in score(net, torch.zeros(1, 2)).values())


def test_an_unknown_activation_that_saturates_is_refused() -> None:
    with pytest.raises(ValueError, match=r"95% of the weights of Net score as all others.*in b.weight.*saturates"):
        score(Net(lambda x: x.clamp(0, 6)), torch.zeros(1, 2, 8, 8))


def test_filters_of_a_transposed_convolution_are_looked_at_along_its_outputs() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(4, 3, 1))
    net[0].weight.data = torch.tensor([1.0, 2.0, 3.0]).expand(4, 3)[..., None, None].clone()
    with pytest.raises(ValueError, match=r"100% of the weights of Sequential score as all others.*in 0.weight"):
        score(net, torch.zeros(1, 4, 2, 2))


def test_norms_of_the_inputs_own_statistics_are_refused_by_name() -> None:
    norm = nn.GroupNorm(1, 3)
    net = nn.Sequential(nn.Linear(2, 3), norm, nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"0.weight of Sequential scores below 0.*a layer or group norm"):
        score(net, torch.zeros(1, 2))


def test_weights_that_see_only_padding_are_no_reason_to_refuse() -> None:
    """Eight of nine weights score 0, rightly."""
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    result = score(net, torch.zeros(1, 2, 1, 1))["0.weight"]
    assert result.ne(0).sum().item() == 8


def test_weights_that_lost_their_flow_by_pruning_are_no_reason_to_refuse() -> None:
    net = mlp(4, 8, 4)
    net[0].weight.data[::2] = 0
    net[2].weight.data.zero_()
    assert not any(s.any() for s in score(net, torch.zeros(1, 4)).values())
