"""Law 10: after surgery a network trains on as the masked one would; an invalid plan changes nothing."""

import copy
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunelab.channels.plan import Plan
from prunelab.channels.surgery import shrink
from prunelab.channels.units import Channels
from prunelab.core.allocation import Uniform
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.types import Masks

X = torch.randn(6, 3, 8, 8, dtype=torch.double, generator=torch.Generator().manual_seed(1))
Make = Callable[[Iterable[Tensor]], Optimizer]


class Net(nn.Module):
    """One of each that surgery adjusts: a residual sum, zeros, groups, norms, tied weights, a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.bn = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.deep, self.group_norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.GroupNorm(4, 8)
        self.grouped, self.act = nn.Conv2d(8, 8, 1, groups=4), nn.PReLU(8)
        self.tied = nn.Conv2d(8, 8, 1, groups=4)
        self.tied.weight = self.grouped.weight
        self.pad, self.wide = nn.ConstantPad3d((0, 0, 0, 0, 2, 2), 0.0), nn.Conv2d(8, 12, 1)
        self.pool, self.head = nn.MaxPool2d(4), nn.Sequential(nn.Linear(48, 6), nn.ReLU(), nn.Linear(6, 4))
        self.frozen = nn.Conv2d(12, 12, 1).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x)).relu()
        x = x + self.tied(self.act(self.grouped(self.group_norm(self.deep(x)))))
        x = self.frozen((self.pad(x) + self.wide(x)).relu())
        return self.head(self.pool(x).flatten(1))


@cache
def halved() -> tuple[Masks, Plan]:
    return masked(Net().double().requires_grad_())  # Channels leaves frozen layers whole, surgery can cut them


def masked(net: nn.Module, rate: float = 0.5) -> tuple[Masks, Plan]:
    units = Channels().bind(net, prunable_weights(net), X)
    g = torch.Generator().manual_seed(2)
    keep = Uniform()({name: torch.rand(len(n), generator=g) for name, n in units.numbers.items()}, rate)
    return units.expand(keep), units.plan(keep)


def train(net: nn.Module, optimizer: Optimizer, masks: Masks, seeds: Iterable[int], schedule: Any = None) -> None:
    for seed in seeds:
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(6, 3, 8, 8, generator=g).double()
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), torch.randint(0, 4, (6,), generator=g)).backward()
        for name, mask in masks.items():
            if (grad := net.get_parameter(name).grad) is not None:
                grad.mul_(mask)
        optimizer.step()
        if schedule:
            schedule.step()


def silence(net: nn.Module, optimizer: Optimizer, masks: Masks) -> None:
    for name, mask in masks.items():
        p = net.get_parameter(name)
        p.data.mul_(mask)
        for state in optimizer.state.get(p, {}).values():
            if isinstance(state, Tensor) and state.shape == p.shape:
                state.mul_(mask)


def values(net: nn.Module) -> list[tuple[str, Tensor]]:
    return [*net.named_parameters(), *net.named_buffers()]


def part(tensor: Tensor, name: str, plan: Plan) -> Tensor:
    for (cut, axis), kept in plan.keep.items():
        if cut == name:
            tensor = tensor.index_select(axis, kept)
    return tensor


OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda ps: torch.optim.SGD(ps, 0.05, weight_decay=0.01),
    "momentum": lambda ps: torch.optim.SGD(ps, 0.05, momentum=0.9, weight_decay=0.01),
    "Nesterov": lambda ps: torch.optim.SGD(ps, 0.05, momentum=0.9, nesterov=True),
    "AdamW": lambda ps: torch.optim.AdamW(ps, 0.01, weight_decay=0.1),
    "AMSGrad": lambda ps: torch.optim.Adam(ps, 0.01, amsgrad=True),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_shrunk_network_trains_on_as_the_masked_one(make: Make) -> None:
    """Two steps, then three more of both: all kept parameters and buffers agree."""
    large, small = Net().double(), Net().double()
    optimizers = make(large.parameters()), make(small.parameters())
    schedules = [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7) for optimizer in optimizers]
    masks, plan = halved()
    for net, optimizer, schedule in zip((large, small), optimizers, schedules, strict=True):
        train(net, optimizer, {}, range(2), schedule)
        silence(net, optimizer, masks)
    owned = [id(p) for p in optimizers[1].param_groups[0]["params"]]
    shrink(small, plan, optimizers[1:])
    assert sum(p.numel() for p in small.parameters()) < 0.5 * sum(p.numel() for p in large.parameters())
    assert owned == [id(p) for p in small.parameters()] == [id(p) for p in optimizers[1].param_groups[0]["params"]]
    train(large, optimizers[0], masks, range(2, 5), schedules[0])
    train(small, optimizers[1], {}, range(2, 5), schedules[1])
    for (name, big), (_, little) in zip(values(large), values(small), strict=True):
        torch.testing.assert_close(little, part(big, name, plan), rtol=1e-10, atol=1e-10, msg=name)
    for (name, big), little in zip(large.named_parameters(), small.parameters(), strict=True):
        for key, state in optimizers[0].state.get(big, {}).items():
            if isinstance(state, Tensor):
                expected = part(state, name, plan) if state.dim() else state
                torch.testing.assert_close(optimizers[1].state[little][key], expected, rtol=1e-10, atol=1e-10)


def test_modules_have_their_new_sizes() -> None:
    net = Net().double()
    _, plan = halved()
    shrink(net, plan)
    assert str(net.stem) == "Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)"
    assert (net.deep.groups, net.deep.in_channels, net.deep.out_channels) == (4, 4, 4)
    for conv in (net.grouped, net.tied):  # two of four groups of two remain
        assert (conv.groups, conv.in_channels, conv.out_channels, tuple(conv.weight.shape)) == (2, 4, 4, (4, 2, 1, 1))
    assert net.tied.weight is net.grouped.weight
    assert (net.bn.num_features, net.group_norm.num_groups, net.group_norm.num_channels) == (4, 2, 4)
    assert (net.act.num_parameters, net.wide.in_channels) == (4, 4)
    assert sum(net.pad.padding) == net.wide.out_channels - 4
    assert (net.head[0].in_features, net.head[0].out_features) == (4 * net.frozen.out_channels, 3)
    assert (net.head[2].in_features, net.head[2].out_features) == (3, 4)


SIZES: dict[str, tuple[nn.Module, dict[int, list[int]], str, tuple[int, ...]]] = {
    "positions of each group": (
        nn.Conv2d(8, 8, 1, groups=2), {0: [0, 3, 4, 7], 1: [1, 2]}, "Conv2d(4, 4, {}, groups=2)", (4, 2, 1, 1)),
    "positions of the groups that are left": (
        nn.Conv2d(9, 9, 1, groups=3), {0: [1, 2, 7, 8]}, "Conv2d(6, 4, {}, groups=2)", (4, 3, 1, 1)),
    "transposed": (
        nn.ConvTranspose2d(4, 6, 1), {0: [1, 3], 1: [0, 1, 5]}, "ConvTranspose2d(2, 3, {})", (2, 3, 1, 1)),
    "groups, transposed": (
        nn.ConvTranspose2d(4, 6, 1, groups=2, bias=False), {0: [2, 3]}, "ConvTranspose2d(2, 3, {}, bias=False)",
        (2, 3, 1, 1)),
}  # fmt: skip


@pytest.mark.parametrize(("layer", "cuts", "shown", "shape"), SIZES.values(), ids=SIZES)
def test_convolutions_in_groups_and_transposed_have_their_new_sizes(
    layer: nn.Module, cuts: dict[int, list[int]], shown: str, shape: tuple[int, ...]
) -> None:
    shrink(net := nn.Sequential(layer), Plan({("0.weight", axis): kept(*indices) for axis, indices in cuts.items()}))
    assert str(net[0]) == shown.format("kernel_size=(1, 1), stride=(1, 1)")
    assert tuple(net[0].weight.shape) == shape


def test_two_cuts_of_a_group_norm_are_one_plan() -> None:
    """Of a single group that is left, channels may go: it is a norm over the others."""
    net, again = (
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8)),
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8)),
    )
    again.load_state_dict(net.state_dict())
    plans = [
        Plan({(name, 0): kept(*indices) for name in ("0.weight", "0.bias", "1.weight", "1.bias")})
        for indices in ((4, 5, 6, 7), (1, 3))
    ]
    for plan in plans:
        shrink(net, plan)
    shrink(again, plans[0].then(plans[1]))
    assert str(again[1]) == str(net[1]) == "GroupNorm(1, 2, eps=1e-05, affine=True, bias=True)"
    weight, bias = again[0].weight.flatten(1), again[0].bias
    x = torch.randn(5, 3, 2, 2)
    y = torch.einsum("ci,nihw->nchw", weight, x) + bias[:, None, None]
    over = (1, 2, 3)
    expected = (y - y.mean(over, keepdim=True)) / (y.var(over, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(again(x), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(again(x), net(x))


def test_a_block_in_a_block_that_a_later_plan_removes_is_of_no_account() -> None:
    plan = Plan(blocks={"0.1": "ReLU", "2": "ReLU"}).then(Plan(blocks={"0": "Identity"}))
    shrink(net := nn.Sequential(nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Tanh(), nn.Tanh()), plan)
    assert [type(module) for module in net] == [nn.Identity, nn.Tanh, nn.ReLU]


@pytest.mark.parametrize("last", [False, True])
def test_layout_mode_gradient_and_requires_grad_are_preserved(last: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.Dropout(), nn.Conv2d(8, 4, 1))
    net = net.to(memory_format=torch.channels_last if last else torch.contiguous_format)
    net[1].eval().requires_grad_(False)
    net(X.float()).sum().backward()
    before = {
        name: (p, p.requires_grad, None if p.grad is None else p.grad.clone()) for name, p in net.named_parameters()
    }
    _, plan = masked(net)
    shrink(net, plan)
    assert [m.training for m in net.modules()] == [True, True, False, True, True, True]
    for name, (p, learns, grad) in before.items():
        assert net.get_parameter(name) is p
        assert p.requires_grad == learns
        assert (p.grad is None) == (grad is None)
        if grad is not None:
            assert torch.equal(p.grad, part(grad, name, plan))
    assert net[1].num_batches_tracked.shape == ()
    out = net(X.float())  # also for 1x1 convolutions, whose weights are contiguous in both layouts
    assert out.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def test_parameters_of_a_removed_block_are_dropped_from_the_optimizer() -> None:
    shared = nn.Conv2d(4, 4, 1)
    net = nn.Sequential(shared, nn.Sequential(nn.Conv2d(4, 4, 1), shared), nn.Sequential(nn.ReLU()), nn.Conv2d(4, 2, 1))
    groups = [{"params": list(shared.parameters())}, {"params": [*net[1][0].parameters(), *net[3].parameters()]}]
    optimizer = torch.optim.SGD(groups, 0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 0.5)
    net(torch.randn(2, 4, 3, 3)).sum().backward()
    optimizer.step()
    net.eval()
    shrink(net, Plan(blocks={"1": "ReLU", "2": "Identity"}), [optimizer])
    assert [type(m) for m in net] == [nn.Conv2d, nn.ReLU, nn.Identity, nn.Conv2d]
    assert not net[1].training
    assert [[id(p) for p in g["params"]] for g in optimizer.param_groups] == [
        [id(p) for p in shared.parameters()], [id(p) for p in net[3].parameters()]]  # fmt: skip
    assert optimizer.state.keys() == set(net.parameters())
    assert [g["lr"] for g in schedule.optimizer.param_groups] == [0.05, 0.05]


def kept(*indices: int) -> Tensor:
    return torch.tensor(indices, dtype=torch.long)


BAD: dict[str, tuple[Plan, str]] = {
    "unknown tensor": (Plan({("stem.weights", 0): kept(0)}), "cuts stem.weights, which Net does not have"),
    "out of range": (Plan({("stem.weight", 0): kept(0, 8)}), r"stem.weight \(8, 3, 3, 3\): along axis 0 .*\[0, 8\]"),
    "negative": (Plan({("stem.weight", 0): kept(-1, 0)}), r"\[-1, 0\]"),
    "twice": (Plan({("stem.weight", 0): kept(1, 1)}), r"\[1, 1\]"),
    "not ascending": (Plan({("stem.weight", 0): kept(2, 1)}), r"\[2, 1\]"),
    "nothing": (Plan({("stem.weight", 0): kept()}), "keeps nothing"),
    "no such axis": (Plan({("stem.weight", 4): kept(0)}), "axis 4"),
    "an axis from behind": (Plan({("stem.weight", -1): kept(0)}), "axis -1"),
    "a number": (Plan({("bn.num_batches_tracked", 0): kept(0)}), "axis 0"),
    "a mask": (Plan({("stem.weight", 0): torch.ones(8).bool()}), "stem.weight"),
    "half a group": (Plan({("grouped.weight", 0): kept(0, 1, 2)}), "within a group: Conv2d has 4"),
    "other positions of each group": (Plan({("grouped.weight", 0): kept(0, 3)}), "within a group: Conv2d has 4"),
    "half a norm's group": (Plan({("group_norm.weight", 0): kept(0, 1, 2)}), "within a group: GroupNorm has 4"),
    "a tie in two ways": (
        Plan({("grouped.weight", 0): kept(0, 1), ("tied.weight", 0): kept(2, 3)}), "tied.weight in two ways"),
    "padding of a convolution": (Plan(pads={"stem": (1, 1)}), r"pads stem by \(1, 1\)"),
    "padding of another length": (Plan(pads={"pad": (1, 1)}), "pads pad"),
    "negative padding": (Plan(pads={"pad": (0, 0, 0, 0, -1, 0)}), "pads pad"),
    "padding of nobody": (Plan(pads={"pads": (0, 0)}), "pads pads"),
    "unknown block": (Plan(blocks={"body": "ReLU"}), "ReLU in the place of 'body'"),
    "the whole net": (Plan(blocks={"": "ReLU"}), "ReLU in the place of ''"),
    "unknown stand-in": (Plan(blocks={"head": "GELU"}), "GELU in the place of 'head'"),
    "a block in a block": (Plan(blocks={"head": "ReLU", "head.0": "ReLU"}), "ReLU in the place of 'head.0'"),
}  # fmt: skip


@pytest.mark.parametrize(("plan", "why"), BAD.values(), ids=BAD)
def test_an_invalid_plan_is_refused_before_any_change(plan: Plan, why: str) -> None:
    """Even after valid parts of the plan."""
    net = Net()
    before, shown = copy.deepcopy(net.state_dict()), str(net)
    good = Plan({("head.0.weight", 0): kept(0, 1), ("head.0.bias", 0): kept(0, 1), ("head.2.weight", 1): kept(0, 1)})
    both = Plan({**good.keep, **plan.keep}, plan.pads, {"pool": "Identity", **plan.blocks})
    with pytest.raises(ValueError, match=why):
        shrink(net, both)
    assert str(net) == shown
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    shrink(net, good)


def test_state_that_cannot_be_sliced_is_refused_before_any_change() -> None:
    net = Net().double()
    optimizer = torch.optim.Adafactor(net.parameters())
    train(net, optimizer, {}, [0])
    _, plan = halved()
    before = {name: value.shape for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=r"Adafactor has state row_var \(8, 3, 3, 1\) for stem.weight.*use SGD"):
        shrink(net, plan, [optimizer])
    assert {name: value.shape for name, value in net.state_dict().items()} == before


def test_nothing_to_remove_changes_nothing() -> None:
    net = Net().double()
    before = net(X)
    shrink(net, masked(net, rate=0.0)[1])
    assert torch.equal(net(X), before)
