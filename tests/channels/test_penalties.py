"""Penalties: groups listed by hand in loops, steps checked by optimality of the proximal point."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from prunelab.channels.blocks import Block
from prunelab.channels.groups import CUTS
from prunelab.channels.penalties import GroupLasso, ScaleL1
from prunelab.channels.units import Channels, Filter, Neuron
from prunelab.core.granularity import Granularity, Weight
from prunelab.core.network.prunable import prunable_weights
from prunelab.models.resnet import ResNet, projection

EXAMPLE = torch.zeros(2, 3, 8, 8).double()
Group = list[Tensor]  # views of parameters
MAKERS = ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer1.1.conv2"]
STREAM = {"conv1": "bn1", "layer1.0.conv2": "layer1.0.bn2", "layer1.1.conv2": "layer1.1.bn2"}
INNER = {"layer1.0.conv1": "layer1.0.bn1", "layer1.1.conv1": "layer1.1.bn1"}


def residual() -> ResNet:
    """Two blocks, and five channels in the stream, with weights and scales of many sizes, some of them 0."""
    torch.manual_seed(0)
    net = ResNet((5,), 2, projection, 3).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn_like(p) * torch.rand(p.shape[:1]).view(-1, *[1] * (p.dim() - 1)).double())
            p[0] = 0
    return net


def bound(net: nn.Module, granularity: Granularity, example: Tensor = EXAMPLE, skip: tuple[str, ...] = ()):
    return granularity.bind(net, prunable_weights(net, skip), example)


@pytest.mark.parametrize("penalty", [ScaleL1(0.1), GroupLasso(0.1), GroupLasso(0.1, "shapes")])
def test_what_is_frozen_is_no_group(penalty: ScaleL1 | GroupLasso) -> None:
    net = residual()
    net.layer1[0].conv2.requires_grad_(False)  # it reads the channels of conv1, and makes the stream
    groups = penalty.bind(net, bound(net, Filter()))
    assert all(
        name.startswith(("layer1.0.conv1", "layer1.0.bn1", "layer1.1.conv1", "layer1.1.bn1")) for name in groups.params
    )


def params(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in net.named_parameters()}


def by_hand(net: nn.Module, over: str) -> Iterator[Group]:
    """The groups of `residual`, one after the other."""
    p = params(net)
    if over == "filters":
        for pairs in [STREAM, *({conv: norm} for conv, norm in INNER.items())]:
            for c in range(5):
                rows = [p[f"{conv}.weight"][c] for conv in pairs]
                yield rows + [p[f"{norm}.{part}"][c] for norm in pairs.values() for part in ("weight", "bias")]
    elif over == "channels":
        for layer in [*MAKERS[1:], "fc"]:
            for c in range(5):
                yield [p[f"{layer}.weight"][:, c]]
    elif over == "shapes":
        for layer in MAKERS:
            w = p[f"{layer}.weight"]
            for c in range(w.shape[1]):
                for y in range(3):
                    for x in range(3):
                        yield [w[:, c, y, x]]
    else:
        for block in ("layer1.0.", "layer1.1."):
            yield [tensor for name, tensor in p.items() if name.startswith(block)]


def flat(group: Group) -> Tensor:
    return torch.cat([part.flatten() for part in group])


def rates(penalty, lr: float) -> dict[str, float]:
    return dict.fromkeys(penalty.params, lr)


@pytest.mark.parametrize("by_size", [True, False])
@pytest.mark.parametrize("over", list(CUTS))
def test_the_step_is_the_proximal_one_of_every_group_and_of_nothing_else(over: str, by_size: bool) -> None:
    """For w = argmin |w - w0|^2 / 2 + t |w|: w - w0 + t w / |w| = 0 where w is not 0, |w0| <= t where it is."""
    net, before = residual(), residual()
    units = bound(net, Block() if over == "depth" else Channels())
    norms = sorted(float(flat(g).norm()) / (math.sqrt(len(flat(g))) if by_size else 1) for g in by_hand(net, over))
    lr, gamma = 0.5, 2 * (norms[(len(norms) - 1) // 2] + 1e-3)  # so that about half of the groups go
    penalty = GroupLasso(gamma, over, by_size).bind(net, units)
    penalty.after_step(rates(penalty, lr))
    zero = 0
    for group, was in zip(by_hand(net, over), by_hand(before, over), strict=True):
        w, w0 = flat(group), flat(was)
        t = lr * gamma * (math.sqrt(len(w)) if by_size else 1)
        if w.any():
            assert torch.allclose(w - w0 + t * w / w.norm(), torch.zeros_like(w), atol=1e-12)
        else:
            zero += 1
            assert w0.norm() <= t
    assert 0 < zero < len(norms)
    assert int(penalty.zeros().sum()) == zero
    assert len(penalty.zeros()) == len(norms)
    for group, was in zip(by_hand(net, over), by_hand(before, over), strict=True):
        for part, original in zip(group, was, strict=True):
            part.copy_(original)  # with the groups put back, all is as it was
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before.parameters(), strict=True))


def test_a_smaller_value_is_found_nowhere_around() -> None:
    """The objective itself, over random directions of many lengths."""
    net, before = residual(), residual()
    penalty = GroupLasso(0.4).bind(net, bound(net, Channels()))
    penalty.after_step(rates(penalty, 0.5))
    g = torch.Generator().manual_seed(0)

    def objective() -> float:
        near = sum((p - q).square().sum() for p, q in zip(params(net).values(), params(before).values(), strict=True))
        return float(near / 2 + sum(0.2 * math.sqrt(len(flat(w))) * flat(w).norm() for w in by_hand(net, "filters")))

    least, at = objective(), [p.clone() for p in params(net).values()]
    for size in (1e-4, 1e-3, 1e-2, 0.1, 1.0):
        for _ in range(20):
            for p, w in zip(params(net).values(), at, strict=True):
                p.copy_(w + size * torch.randn(w.shape, generator=g, dtype=w.dtype))
            assert objective() > least


def test_two_neurons_worked_by_hand() -> None:
    """Rows (3, 4 | 0) and (0, 0.5 | 0) with their bias: n = 3; lengths 5 and 0.5, both shorter by 0.5 * sqrt(3)."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    net[0].weight.data, net[0].bias.data = torch.tensor([[3.0, 4.0], [0.0, 0.5]]), torch.zeros(2)
    last = net[2].weight.detach().clone()
    penalty = GroupLasso(gamma=5.0).bind(net, bound(net, Neuron(), torch.zeros(1, 2)))
    penalty.after_step(rates(penalty, 0.1))
    left = 1 - 0.5 * math.sqrt(3) / 5
    assert net[0].weight[0].tolist() == pytest.approx([3 * left, 4 * left])
    assert net[0].weight[1].tolist() == [0.0, 0.0]
    assert penalty.zeros().tolist() == [False, True]
    assert torch.equal(net[2].weight, last)


def test_a_group_that_is_zero_is_a_channel_that_is_zero_behind_its_norms() -> None:
    net = residual().eval()
    penalty = GroupLasso(0.4).bind(net, bound(net, Channels()))
    with torch.no_grad():
        for conv, norm in STREAM.items():
            for name in (f"{conv}.weight", f"{norm}.weight", f"{norm}.bias"):
                net.get_parameter(name)[3] *= 1e-6
    penalty.after_step(rates(penalty, 0.1))
    outputs = []
    net.layer1.register_forward_hook(lambda module, args, out: outputs.append(out))
    net(torch.randn(2, 3, 8, 8).double())
    assert not outputs[0][:, 3].any()
    assert outputs[0][:, 4].any()


def test_all_positions_of_a_channel_behind_flatten_are_one_group() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 2))
    penalty = GroupLasso(1.0, "channels").bind(net, bound(net, Filter(), torch.zeros(1, 1, 4, 4)))
    assert list(penalty.params) == ["2.weight"]
    with torch.no_grad():
        net[2].weight.fill_(1.0)[:, 4:8] = 0
        net[2].weight[0, 4] = 1e-30  # too small for its square, but not 0
    assert penalty.zeros().tolist() == [False, False, False]
    with torch.no_grad():
        net[2].weight[0, 4] = 0
    assert penalty.zeros().tolist() == [False, True, False]
    penalty.after_step(rates(penalty, 0.25))  # length sqrt(8), less 0.25 * sqrt(8)
    assert net[2].weight[0].tolist() == pytest.approx([0.75] * 4 + [0.0] * 4 + [0.75] * 4)


class Scaled(nn.Module):
    """A scale and PReLU slopes for each channel, grouped filters, and a last norm whose channels are the output."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.slope = nn.Conv2d(3, 4, 1), nn.PReLU(4)
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))
        self.b = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.c, self.norm = nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.c(self.b(self.slope(self.a(x) * self.scale)))).mean((2, 3))


def test_a_group_has_all_that_is_the_units_own_and_the_output_has_none() -> None:
    """Grouped filters couple channels in pairs: two units."""
    net = Scaled()
    units = bound(net, Filter())
    lasso = GroupLasso(1.0).bind(net, units)
    assert sorted(lasso.params) == ["a.bias", "a.weight", "b.weight", "scale", "slope.weight"]
    assert lasso.groups.sizes.tolist() == [2 * (3 + 1 + 1 + 1 + 2 * 9)] * 2
    reads = GroupLasso(1.0, "channels").bind(net, units)
    assert list(reads.params) == ["c.weight"]
    with pytest.raises(ValueError, match="Scaled: nothing to penalise, it has no norm behind its units"):
        ScaleL1(1.0).bind(net, units)


def test_memory_format_and_half_precision_make_no_difference_to_what_is_zero() -> None:
    nets = [residual().float(), residual().float().to(memory_format=torch.channels_last), residual().bfloat16()]
    results = []
    for net in nets:
        penalty = GroupLasso(0.4).bind(net, bound(net, Channels(), EXAMPLE.to(net.fc.weight.dtype)))
        penalty.after_step(rates(penalty, 0.5))
        results.append(params(net) | {"zeros": penalty.zeros()})
    assert nets[1].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    for name, tensor in results[0].items():
        assert torch.allclose(tensor.float(), results[1][name].float(), rtol=1e-6), name
        assert torch.allclose(tensor.float(), results[2][name].float(), atol=0.05), name
    assert 0 < int(results[0]["zeros"].sum()) < len(results[0]["zeros"])


@pytest.mark.parametrize("penalty", [GroupLasso(0.0), GroupLasso(1.0), ScaleL1(0.0, True), ScaleL1(1.0, True)])
def test_without_learning_rate_or_strength_no_bit_changes(penalty) -> None:
    net, before = residual(), residual()
    penalty = penalty.bind(net, bound(net, Channels()))
    penalty.after_step(rates(penalty, 1.0 if penalty.gamma == 0 else 0.0))
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before.parameters(), strict=True))


def test_the_sub_gradient_is_that_of_the_term_in_the_loss() -> None:
    net, twin = residual(), residual()
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    scales = [twin.get_parameter(f"{norm}.weight") for norm in [*STREAM.values(), *INNER.values()]]
    (twin(x).square().mean() + 0.3 * sum(s.abs().sum() for s in scales)).backward()
    net(x).square().mean().backward()
    penalty = ScaleL1(0.3).bind(net, bound(net, Channels()))
    penalty.before_step()
    penalty.after_step(rates(penalty, 1.0))
    for (name, p), (_, q) in zip(net.named_parameters(), twin.named_parameters(), strict=True):
        assert torch.equal(p, q)
        assert torch.allclose(p.grad, q.grad, rtol=1e-12), name
    assert sum(int((s == 0).sum()) for s in scales) == len(scales)  # where it is 0


def test_a_norm_without_a_gradient_stays_out_of_the_step() -> None:
    net = residual()
    penalty = ScaleL1(0.3).bind(net, bound(net, Channels()))
    net.bn1.weight.grad = torch.zeros(5).double()
    penalty.before_step()
    assert net.bn1.weight.grad.any()
    assert net.layer1[0].bn1.weight.grad is None


def test_the_proximal_form_is_the_soft_threshold_with_the_rate_of_each_scale() -> None:
    """In doubles that are sums of powers of 2: 0.25 * 0.5 = 0.125 off the one norm, 0.25 * 2 = 0.5 off the other."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 1)
    )
    net[1].weight.data = torch.tensor([1.0, -0.125, 0.0625, -0.5])
    net[3].weight.data = torch.tensor([1.0, -0.125, -0.75])
    penalty = ScaleL1(0.25, proximal=True).bind(net, bound(net, Filter(), torch.zeros(2, 1, 1, 1)))
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    penalty.before_step()
    assert all(p.grad.eq(1).all() for p in net.parameters())
    others = [p.detach().clone() for name, p in net.named_parameters() if name not in penalty.params]
    penalty.after_step({"1.weight": 0.5, "3.weight": 2.0})
    assert net[1].weight.tolist() == [0.875, 0.0, 0.0, -0.375]
    assert net[3].weight.tolist() == [0.5, 0.0, -0.25]
    assert penalty.zeros().tolist() == [False, True, True, False, False, True, False]
    left = [p for name, p in net.named_parameters() if name not in penalty.params]
    assert all(torch.equal(p, q) for p, q in zip(left, others, strict=True))


def test_scales_of_channels_that_are_no_units_are_left_alone() -> None:
    net = residual()
    penalty = ScaleL1(0.25).bind(net, _skipped(net))
    assert "layer1.0.bn1.weight" not in penalty.params
    assert set(penalty.params) == {f"{norm}.weight" for norm in STREAM.values()} | {"layer1.1.bn1.weight"}
    lasso = GroupLasso(0.25).bind(net, _skipped(net))
    assert not any(name.startswith(("layer1.0.conv1", "layer1.0.bn1", "fc")) for name in lasso.params)


def test_of_a_norm_over_units_and_others_the_units_scales_are_pulled_at() -> None:
    """As in DenseNets: the first three channels are the network's input."""

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.b = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(7), nn.Conv2d(7, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.norm(torch.cat([x, self.a(x)], 1)))

    net = Dense()
    units = bound(net, Filter(), torch.zeros(2, 3, 4, 4))
    penalty = ScaleL1(0.25, proximal=True).bind(net, units)
    penalty.after_step(rates(penalty, 2.0))
    assert net.norm.weight.tolist() == [1.0] * 3 + [0.5] * 4
    net.norm.weight.grad = torch.zeros(7)
    ScaleL1(0.25).bind(net, units).before_step()
    assert net.norm.weight.grad.tolist() == [0.0] * 3 + [0.25] * 4
    lasso = GroupLasso(1.0).bind(net, units)
    lasso.after_step(rates(lasso, 1e9))
    assert lasso.zeros().tolist() == [True] * 4
    assert net.norm.weight.tolist() == [1.0] * 3 + [0.0] * 4


def _skipped(net: nn.Module) -> Granularity:
    return bound(net, Channels(), skip=("layer1.0.conv1.weight",))


def test_what_does_not_fit_is_refused() -> None:
    net = residual()
    with pytest.raises(ValueError, match=r"gamma=-1: expected a number >= 0"):
        GroupLasso(-1)
    with pytest.raises(ValueError, match=r"gamma=nan: expected a number >= 0"):
        ScaleL1(math.nan)
    with pytest.raises(ValueError, match="over='rows': expected one of filters, channels, shapes, depth"):
        GroupLasso(1.0, over="rows")  # type: ignore[arg-type]
    for penalty in (ScaleL1(1.0), GroupLasso(1.0), GroupLasso(1.0, "channels"), GroupLasso(1.0, "shapes")):
        with pytest.raises(ValueError, match="is on channels, units are of kind Weight"):
            penalty.bind(net, Weight())
    with pytest.raises(ValueError, match="over=depth penalises blocks, units are of kind Channels"):
        GroupLasso(1.0, "depth").bind(net, bound(net, Channels()))
    lasso = GroupLasso(1.0).bind(net, bound(net, Channels()))
    with pytest.raises(ValueError, match="one learning rate for all of its parameters"):
        lasso.after_step(rates(lasso, 0.1) | {"bn1.bias": 0.2})
