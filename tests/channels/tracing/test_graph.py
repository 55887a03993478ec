"""Channel graphs worked out by hand. A letter is a unit; a dot is a position that stays."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.channels.equivalence.certificate import EquivalenceCheck
from prunelab.channels.plan import Plan
from prunelab.channels.surgery import shrink
from prunelab.channels.tracing import rules
from prunelab.channels.tracing.graph import ChannelGraph, _counts_such, channel_graph
from prunelab.core.network.living_norms import take_notice

Forward = Callable[..., Any]


class Net(nn.Module):
    """The given parts and forward pass; x has 3 channels."""

    def __init__(self, forward: Forward, **parts: Any) -> None:
        super().__init__()
        self.compute = forward
        for name, part in parts.items():
            is_parameter = isinstance(part, Tensor) and not isinstance(part, nn.Buffer)
            setattr(self, name, nn.Parameter(part) if is_parameter else part)

    def forward(self, x: Tensor) -> Any:
        return self.compute(self, x)


def conv(a: int, b: int, groups: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(a, b, 1, groups=groups, bias=bias)


def graph_of(net: nn.Module) -> ChannelGraph:
    return channel_graph(net, torch.zeros(2, 3, 4, 4))


def drawn(graph: ChannelGraph) -> dict[str, str]:
    """The units along each axis of each tensor, "weight 0": "AB." """
    letters = {place: "".join("." if u < 0 else chr(65 + u) for u in units) for place, units in graph.places.items()}
    return {f"{name} {axis}": text for (name, axis), text in letters.items()}


NETS: dict[str, tuple[nn.Module, dict[str, str]]] = {
    "concatenated to nothing": (
        Net(lambda m, x: m.out(torch.cat([torch.tensor([]), m.a(x), m.b(x)], 1)), a=conv(3, 2), b=conv(3, 3),
            out=conv(5, 2)),
        {"a.weight 0": "AB", "b.weight 0": "CDE", "out.weight 1": "ABCDE"},
    ),
    "residual": (
        Net(lambda m, x: m.out((y := m.stem(x)) + m.b(m.bn(m.a(y)).relu())),
            stem=conv(3, 3), a=conv(3, 2, bias=True), bn=nn.BatchNorm2d(2), b=conv(2, 3), out=conv(3, 2)),
        {"stem.weight 0": "ABC", "a.weight 1": "ABC", "a.weight 0": "DE", "a.bias 0": "DE", "bn.weight 0": "DE",
         "bn.bias 0": "DE", "bn.running_mean 0": "DE", "bn.running_var 0": "DE", "b.weight 1": "DE",
         "b.weight 0": "ABC", "out.weight 1": "ABC"},
    ),
    "dense": (
        Net(lambda m, x: m.out(torch.cat([m.b(y := m.a(x)), y], 1)), a=conv(3, 2), b=conv(2, 3), out=conv(5, 2)),
        {"a.weight 0": "AB", "b.weight 1": "AB", "b.weight 0": "CDE", "out.weight 1": "CDEAB"},
    ),
    "depthwise": (
        Net(lambda m, x: m.out(m.deep(m.a(x))), a=conv(3, 2), deep=conv(2, 4, 2, True), out=conv(4, 2)),
        {"a.weight 0": "AB", "deep.weight 0": "AABB", "deep.bias 0": "AABB", "out.weight 1": "AABB"},
    ),
    "grouped": (
        Net(lambda m, x: m.out(m.wide(m.a(x))), a=conv(3, 4), wide=conv(4, 6, 2), out=conv(6, 2)),
        {"a.weight 0": "AABB", "wide.weight 0": "AAABBB", "out.weight 1": "AAABBB"},
    ),
    "wide groups": (  # the same positions of each
        Net(lambda m, x: m.out(m.wide(m.a(x))), a=conv(3, 6), wide=conv(6, 4, 2), out=conv(4, 2)),
        {"a.weight 0": "ABCABC", "wide.weight 1": "ABC", "wide.weight 0": "DEDE", "out.weight 1": "DEDE"},
    ),
    "transposed convolution": (
        Net(lambda m, x: m.out(m.up(m.a(x))), a=conv(3, 2), up=nn.ConvTranspose2d(2, 3, 2), out=conv(3, 2)),
        {"a.weight 0": "AB", "up.weight 0": "AB", "up.weight 1": "CDE", "up.bias 0": "CDE", "out.weight 1": "CDE"},
    ),
    "transposed convolution in groups": (
        Net(lambda m, x: m.out(m.up(m.a(x))), a=conv(3, 4), up=nn.ConvTranspose2d(4, 6, 2, groups=2), out=conv(6, 2)),
        {"a.weight 0": "AABB", "up.weight 0": "AABB", "up.bias 0": "AAABBB", "out.weight 1": "AAABBB"},
    ),
    "squeeze and excite": (
        Net(lambda m, x: m.out((y := m.a(x)) * m.up(m.down(y.mean((2, 3), keepdim=True)).relu()).sigmoid()),
            a=conv(3, 4), down=conv(4, 2), up=conv(2, 4), out=conv(4, 2)),
        {"a.weight 0": "ABCD", "down.weight 1": "ABCD", "down.weight 0": "EF", "up.weight 1": "EF",
         "up.weight 0": "ABCD", "out.weight 1": "ABCD"},
    ),
    "option A": (
        Net(lambda m, x: m.out(m.pad(y := m.a(x)) + m.b(y)), a=conv(3, 2), b=conv(2, 5),
            pad=nn.ConstantPad3d((0, 0, 0, 0, 1, 2), 0.0), out=conv(5, 2)),
        {"a.weight 0": "AB", "b.weight 1": "AB", "b.weight 0": "CABDE", "out.weight 1": "CABDE"},
    ),
    "option A in a function": (  # hard-coded zeros, which surgery cannot change
        Net(lambda m, x: m.out(F.pad(y := m.a(x), (0, 0, 0, 0, 1, 2)) + m.b(y)), a=conv(3, 2), b=conv(2, 5),
            out=conv(5, 2)),
        {"a.weight 0": "AB", "b.weight 1": "AB", "b.weight 0": ".AB..", "out.weight 1": ".AB.."},
    ),
    "shuffle": (
        Net(lambda m, x: m.out(m.a(x).view(2, 2, -1, 4, 4).transpose(1, 2).reshape(2, -1, 4, 4)),
            a=conv(3, 6), out=conv(6, 2)),
        {"a.weight 0": "ABCABC", "out.weight 1": "AABBCC"},
    ),
    "shuffle by a module": (
        Net(lambda m, x: m.out(m.mix(m.a(x))), a=conv(3, 6), mix=nn.ChannelShuffle(2), out=conv(6, 2)),
        {"a.weight 0": "ABCABC", "out.weight 1": "AABBCC"},
    ),
    "flatten": (
        Net(lambda m, x: m.out(F.avg_pool2d(m.a(x), 2).flatten(1)), a=conv(3, 2), out=nn.Linear(8, 2)),
        {"a.weight 0": "AB", "out.weight 1": "AAAABBBB"},
    ),
    "group norm": (
        Net(lambda m, x: m.out(m.norm(m.a(x))), a=conv(3, 6), norm=nn.GroupNorm(3, 6), out=conv(6, 2)),
        {"a.weight 0": "AABBCC", "norm.weight 0": "AABBCC", "norm.bias 0": "AABBCC", "out.weight 1": "AABBCC"},
    ),
    "halves": (
        Net(lambda m, x: m.out(torch.cat([m.b((y := m.a(x))[:, : (n := y.shape[1] // 2)]), y[:, n:]], 1)),
            a=conv(3, 4), b=conv(2, 3), out=conv(5, 2)),
        {"a.weight 0": "ABAB", "b.weight 1": "AB", "b.weight 0": "CDE", "out.weight 1": "CDEAB"},
    ),
    "chunks": (
        Net(lambda m, x: m.out(torch.cat([m.b((y := m.a(x).chunk(2, 1))[0]), y[1]], 1)),
            a=conv(3, 4), b=conv(2, 3), out=conv(5, 2)),
        {"a.weight 0": "ABAB", "b.weight 1": "AB", "b.weight 0": "CDE", "out.weight 1": "CDEAB"},
    ),
    "scale and PReLU": (
        Net(lambda m, x: m.out(m.act(m.a(x) * m.scale)), a=conv(3, 2), scale=torch.ones(1, 2, 1, 1),
            act=nn.PReLU(2), out=conv(2, 2)),
        {"a.weight 0": "AB", "scale 1": "AB", "act.weight 0": "AB", "out.weight 1": "AB"},
    ),
    "every second channel": (  # neighbours go together, so that the others stay even or odd
        Net(lambda m, x: m.out(torch.cat([(y := m.a(x))[:, 1::2], y[:, ::2]], 1)), a=conv(3, 5), out=conv(5, 2)),
        {"a.weight 0": "AABBC", "out.weight 1": "ABABC"},
    ),
    "up to an index": (  # those before it stay, so that it counts the same
        Net(lambda m, x: m.out(torch.cat([(y := m.a(x))[:, 2:], y[:, :2]], 1)), a=conv(3, 5), out=conv(5, 2)),
        {"a.weight 0": "..ABC", "out.weight 1": "ABC.."},
    ),
    "the last by index": (
        Net(lambda m, x: m.out(torch.cat([(y := m.a(x))[:, :-2], y[:, -2:]], 1)), a=conv(3, 5), out=conv(5, 2)),
        {"a.weight 0": "ABC..", "out.weight 1": "ABC.."},
    ),
    "a shorter last part": (
        Net(lambda m, x: m.out(torch.cat(m.a(x).split(3, 1)[::-1], 1)), a=conv(3, 5), out=conv(5, 2)),
        {"a.weight 0": "...AB", "out.weight 1": "AB..."},
    ),
    "pixel shuffle": (
        Net(lambda m, x: m.out(F.pixel_shuffle(m.a(x), 2)), a=conv(3, 8), out=conv(2, 2)),
        {"a.weight 0": "AAAABBBB", "out.weight 1": "AB"},
    ),
    "pixel unshuffle": (
        Net(lambda m, x: m.out(F.pixel_unshuffle(m.a(x), 2)), a=conv(3, 2), out=conv(8, 2)),
        {"a.weight 0": "AB", "out.weight 1": "AAAABBBB"},
    ),
    "gated linear unit": (
        Net(lambda m, x: m.out(F.glu(m.a(x), 1)), a=conv(3, 4), out=conv(2, 2)),
        {"a.weight 0": "ABAB", "out.weight 1": "AB"},
    ),
    "repeated": (
        Net(lambda m, x: m.out(m.a(x).repeat(1, 2, 2, 1)), a=conv(3, 2), out=conv(4, 2)),
        {"a.weight 0": "AB", "out.weight 1": "ABAB"},
    ),
    "behind a constant": (
        Net(lambda m, x: m.out(torch.cat([torch.ones(2, 1, 4, 4), m.a(x)], 1)), a=conv(3, 2), out=conv(3, 2)),
        {"a.weight 0": "AB", "out.weight 1": ".AB"},
    ),
    "parameters that are changed and moved": (
        Net(lambda m, x: m.out(m.a(x) * (m.scale * m.mean.rsqrt()).abs()[:, None, None] + m.shift.view(1, -1, 1, 1)),
            a=conv(3, 2), scale=torch.ones(2), shift=torch.ones(2), mean=nn.Buffer(torch.ones(2)), out=conv(2, 2)),
        {"a.weight 0": "AB", "scale 0": "AB", "mean 0": "AB", "shift 0": "AB", "out.weight 1": "AB"},
    ),
    "tokens": (  # with a token of their own, and places
        Net(lambda m, x: m.out(torch.cat([m.token.expand(2, -1, -1), m.a(x).flatten(2).mT + m.place[:, 1:]], 1)
                               + m.place),
            a=conv(3, 2), token=torch.ones(1, 1, 2), place=torch.ones(1, 17, 2), out=nn.Linear(2, 2)),
        {"a.weight 0": "AB", "token 2": "AB", "place 2": "AB", "out.weight 1": "AB"},
    ),
    "a table": (  # of one row for each place, and a column for each channel
        Net(lambda m, x: m.out(m.a(x) + m.table[m.index.view(-1)].view(4, 4, -1).permute(2, 0, 1)),
            a=conv(3, 2), table=torch.ones(7, 2), index=nn.Buffer(torch.arange(16).view(4, 4) % 7), out=conv(2, 2)),
        {"a.weight 0": "AB", "table 1": "AB", "out.weight 1": "AB"},
    ),
    "of the type of a weight": (
        Net(lambda m, x: m.out(m.a(x).type_as(m.a.weight)), a=conv(3, 2), out=conv(2, 2)),
        {"a.weight 0": "AB", "out.weight 1": "AB"},
    ),
    "embedded places": (
        Net(lambda m, x: m.out(m.a(x) + m.place(torch.arange(16)).T.view(-1, 4, 4)),
            a=conv(3, 2), place=nn.Embedding(20, 2), out=conv(2, 2)),
        {"a.weight 0": "AB", "place.weight 1": "AB", "out.weight 1": "AB"},
    ),
    "a bias of two parts": (
        Net(lambda m, x: m.out(F.conv2d(x, m.weight, torch.cat([m.low, m.high]))),
            weight=torch.ones(5, 3, 1, 1), low=torch.ones(2), high=torch.ones(3), out=conv(5, 2)),
        {"weight 0": "ABCDE", "low 0": "AB", "high 0": "CDE", "out.weight 1": "ABCDE"},
    ),
    "tied weights": (
        Net(lambda m, x: m.out(m.b(m.a(m.stem(x)).relu())), stem=conv(3, 2), a=(tied := conv(2, 2)),
            b=nn.Sequential(tied), out=conv(2, 2)),
        {"stem.weight 0": "AB", "a.weight 1": "AB", "a.weight 0": "AB", "out.weight 1": "AB"},
    ),
    "a group norm of one group": (
        Net(lambda m, x: m.out(m.norm(m.a(x))), a=conv(3, 4), norm=nn.GroupNorm(1, 4), out=conv(4, 2)),
        {"a.weight 0": "ABCD", "norm.weight 0": "ABCD", "norm.bias 0": "ABCD", "out.weight 1": "ABCD"},
    ),
    "a convolution along another axis": (  # it mixes the places of each channel
        Net(lambda m, x: m.out(m.b(m.a(x).flatten(2).mT).mT.unflatten(2, (4, 4))),
            a=conv(3, 2), b=nn.Conv1d(16, 16, 1), out=conv(2, 2)),
        {"a.weight 0": "AB", "out.weight 1": "AB"},
    ),
    "a linear layer along another axis": (
        Net(lambda m, x: m.out(m.b(m.a(x).flatten(2)).unflatten(2, (4, 2))),
            a=conv(3, 2), b=nn.Linear(16, 8), out=conv(2, 2)),
        {"a.weight 0": "AB", "out.weight 1": "AB"},
    ),
    "end to end": (  # parts concatenated along another axis lose the same
        Net(lambda m, x: m.out(torch.cat([m.a(x), m.b(x)], 2)), a=conv(3, 2), b=conv(3, 2), out=conv(2, 2)),
        {"a.weight 0": "AB", "b.weight 0": "AB", "out.weight 1": "AB"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("net", "expected"), NETS.values(), ids=NETS)
def test_units_are_those_worked_out_by_hand(net: nn.Module, expected: dict[str, str]) -> None:
    graph = graph_of(net)
    assert drawn(graph) == expected
    assert graph.stays.keys() <= {"out.weight", "b.weight", "a.weight"}
    assert graph.stays["out.weight"] == "the output of the network"


@pytest.mark.parametrize("net", [net for net, _ in NETS.values()], ids=NETS)
def test_without_some_units_a_network_computes_what_it_does_with_them_masked(net: nn.Module) -> None:
    net, graph = copy.deepcopy(net), graph_of(net)
    g = torch.Generator().manual_seed(3)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=g)
    alive = torch.ones(graph.units + 1, dtype=torch.bool)  # the last for no unit
    for group in graph.groups:
        alive[group.units[torch.randint(len(group.units), (1,), generator=g)]] = False
    keep = {place: alive[units].nonzero().flatten() for place, units in graph.places.items()}
    for (name, axis), kept in keep.items():
        if name in dict(net.named_parameters()):
            gone = torch.ones(net.get_parameter(name).shape[axis], dtype=torch.bool).index_fill(0, kept, False)
            net.get_parameter(name).data.movedim(axis, 0)[gone] = 0
    take_notice(net, graph.norms, {name: alive[graph.places[name, 0]] for name in graph.norms})
    pads = {module: padding for module, pad in graph.pads.items() if (padding := pad.without(alive))}
    check = EquivalenceCheck(net, torch.rand(2, 3, 4, 4, generator=g))
    shrink(net, Plan({place: kept for place, kept in keep.items() if len(kept) < len(graph.places[place])}, pads))
    check.certify(net)


def test_units_on_the_same_axes_are_a_group_named_after_its_first_weight() -> None:
    net = Net(lambda m, x: m.out(torch.cat([m.b(y := m.a(x))[:, :2] + y, m.b(y)[:, 2:]], 1).flatten(1)),
              a=conv(3, 2), b=conv(2, 4), out=nn.Linear(64, 5))  # fmt: skip
    net = nn.Sequential(net, nn.ReLU(), nn.Linear(5, 2))
    found = [(g.name, g.kind, g.makers, g.units.tolist()) for g in graph_of(net).groups]
    assert found == [
        ("0.a.weight", "conv", ("0.a.weight", "0.b.weight"), [0, 1]),
        ("0.out.weight", "linear", ("0.out.weight",), [2, 3, 4, 5, 6]),
    ]


def test_two_groups_in_one_weight_have_two_names() -> None:
    net = Net(lambda m, x: m.out(torch.cat([m.pad(m.a(x)) + m.b(x), m.a(x)], 1)),
              a=conv(3, 2), b=conv(3, 4), pad=nn.ConstantPad3d((0, 0, 0, 0, 0, 2), 0.0), out=conv(6, 2))  # fmt: skip
    graph = graph_of(net)
    assert [(g.name, len(g.units)) for g in graph.groups] == [("a.weight", 2), ("b.weight", 2)]
    assert drawn(graph)["b.weight 0"] == "ABCD"


def test_inputs_and_outputs_are_kept_whole() -> None:
    """With two inputs and two outputs, one from an intermediate layer."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = conv(3, 4), conv(3, 4), conv(4, 4), conv(4, 2)

        def forward(self, x: Tensor, y: Tensor) -> Any:
            middle = self.c(self.a(x) + self.b(y))
            return {"logits": self.d(middle.relu())}, [middle]

    graph = channel_graph(Two(), (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)))
    assert drawn(graph) == {"a.weight 0": "ABCD", "b.weight 0": "ABCD", "c.weight 1": "ABCD"}
    assert graph.stays == dict.fromkeys(["c.weight", "d.weight"], "the output of the network")


UNKNOWN: dict[str, tuple[Forward, str]] = {
    "softmax": (lambda m, y: y.softmax(1), "aten.softmax"),
    "cumsum": (lambda m, y: y.cumsum(1), "aten.cumsum"),
    "sqrt": (lambda m, y: y.abs().sqrt(), "aten.sqrt of channels that may be 0"),
    "root": (lambda m, y: y.abs() ** 0.5, "aten.pow of channels that may be 0"),
    "layer_norm": (lambda m, y: F.layer_norm(y, y.shape[1:]), "aten.layer_norm"),
    "matmul": (lambda m, y: (y.flatten(2) @ y.flatten(2).mT).unsqueeze(3), "aten.matmul"),
    "sort": (lambda m, y: y.sort(1)[0], "aten.sort"),
    "sum over channels": (lambda m, y: y + y.sum(1, True), "aten.sum over channels"),
    "roll of channels": (lambda m, y: y.roll(1, 1), "aten.roll of channels by index"),
    "unequal parts": (lambda m, y: torch.cat(y.split([1, 3], 1)[::-1], 1), "aten.split_with_sizes of channels"),
    "some channels": (lambda m, y: torch.cat([y[:, 2:3], y[:, :1], y[:, 1:3]], 1), "aten.slice of channels by index"),
    "every second of some": (lambda m, y: torch.cat([y[:, :3:2]] * 2, 1), "aten.slice of channels by index"),
    "permuted": (lambda m, y: y[:, [1, 0, 3, 2]], "aten.index"),
    "noise": (lambda m, y: torch.bernoulli(y.sigmoid()), "aten.bernoulli"),
    "infinite at 0": (lambda m, y: y * y.rsqrt(), "aten.rsqrt"),
    "infinitely steep at 0": (lambda m, y: y.abs().cos() * y.sign().add(1).xlogy(y.abs()), "aten.xlogy"),
    "a softmax of a parameter": (lambda m, y: y * m.a.softmax(0).view(4, 1, 1), "aten.mul with a tensor that is comp"),
    "with a constant": (lambda m, y: y * torch.arange(4.0)[:, None, None], "aten.mul with a tensor that is not"),
    "by a parameter": (lambda m, y: y / m.a.view(4, 1, 1), "aten.div by a parameter"),
    "a bias with a single one": (
        lambda m, y: y + torch.cat([m.one, m.three]).view(4, 1, 1), "aten.add with a tensor that is not"),
    "part of a parameter": (lambda m, y: y * m.long[:4].view(4, 1, 1), "aten.mul with a part of a parameter"),
    "pooling of channels": (
        lambda m, y: F.max_pool2d(y.transpose(1, 3), 3, 1, 1).transpose(1, 3), "aten.max_pool2d over channels"),
    "an empty list of axes": (lambda m, y: y * y.amax(()), "aten.amax over everything"),
    "log": (lambda m, y: y.log(), "aten.log"),
    "parametrised": (lambda m, y: F.conv2d(y, m.other * 2), "aten.conv2d with computed weights"),
    "groups of nobody": (lambda m, y: F.conv2d(y, m.other[:, :1] + 0, groups=4), "aten.conv2d with computed weights"),
    "instance norm without scale": (lambda m, y: m.inst(y), "aten.instance_norm without a scale"),
    "group norm of no module": (lambda m, y: F.group_norm(y, 2, m.ones), "aten.group_norm without a scale, outside"),
    "a second use of a weight": (lambda m, y: y + m.first.weight.mean(), "aten.mean of it"),
    "a number computed from all": (lambda m, y: y * y.sum().item(), "aten.sum over everything"),
    "a weight of one axis": (
        lambda m, y: y * F.linear(y.mean((2, 3)), m.a).view(-1, 1, 1, 1), "aten.linear with a weight of one axis"),
    "the bits of numbers": (lambda m, y: y.view(torch.int32).view(torch.float32), "aten.view as another type"),
    "the bits of a parameter": (lambda m, y: y * m.a.view(torch.int32)[:, None, None], "aten.mul with a tensor"),
    "in place on a constant": (lambda m, y: torch.zeros(y.shape).add_(y), "aten.add_ in place"),
}  # fmt: skip


@pytest.mark.parametrize(("compute", "op"), UNKNOWN.values(), ids=UNKNOWN)
def test_channels_of_unknown_operations_stay_with_the_reason_and_no_others(compute: Forward, op: str) -> None:
    more = {
        "a": torch.ones(4),
        "long": torch.ones(8),
        "inst": nn.InstanceNorm2d(4),
        "one": torch.ones(1),
        "three": torch.ones(3),
    }
    odd = Net(compute, other=torch.randn(4, 4, 1, 1), ones=torch.ones(4), **more)
    odd.__dict__["first"] = first = conv(3, 4)  # not registered as a submodule: it has another name
    net = nn.Sequential(first, nn.Sequential(nn.ReLU(), odd), conv(4, 5), conv(5, 2))
    graph = graph_of(net)
    assert drawn(graph) == {"2.weight 0": "ABCDE", "3.weight 1": "ABCDE"}
    assert re.match(rf"{re.escape(op)}.*, called in 1\.1", graph.stays["0.weight"])
    assert graph.stays.keys() - {"1.1.other"} == {"0.weight", "3.weight"}


def test_channels_stay_where_a_rule_does_not_foresee_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(trace: Any, node: Any) -> Any:
        raise IndexError("tuple index out of range")

    monkeypatch.setitem(rules.RULES, torch.ops.aten.relu, rules._guarded(rule))  # type: ignore[index]
    graph = graph_of(nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 5), conv(5, 2)))
    assert drawn(graph) == {"2.weight 0": "ABCDE", "3.weight 1": "ABCDE"}
    why = "aten.relu in a way that its rule does not foresee (IndexError: tuple index out of range), called in 1 (ReLU)"
    assert graph.stays["0.weight"] == why


def test_layers_used_only_in_training_are_coupled_too() -> None:
    """An auxiliary head, which must lose the channels that its input loses."""
    net = Net(lambda m, x: (m.out(y := m.a(x)), m.aux(y)) if m.training else m.out(m.a(x)),
              a=conv(3, 2), out=conv(2, 2), aux=conv(2, 2)).eval()  # fmt: skip
    graph = graph_of(net)
    assert drawn(graph) == {"a.weight 0": "AB", "out.weight 1": "AB", "aux.weight 1": "AB"}
    assert not net.training


def test_a_single_input_is_enough_where_train_mode_normalises_one_value_of_each() -> None:
    net = Net(lambda m, x: (m.out(y := m.bn(m.a(x).mean((2, 3)))), m.aux(y) if m.training else None),
              a=conv(3, 2), bn=nn.BatchNorm1d(2), out=nn.Linear(2, 2), aux=nn.Linear(2, 2))  # fmt: skip
    graph = channel_graph(net, torch.zeros(1, 3, 4, 4))
    assert drawn(graph) == drawn(graph_of(net))
    assert drawn(graph)["aux.weight 1"] == "AB"


def test_beside_a_batch_a_single_input_is_one_for_all_of_it() -> None:
    """As positions, or the first state of a recurrence, which no batch of two would fit."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out, self.aux = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor | None]:
            y = self.b(self.a(x) + state.view(len(x), 4))
            return self.out(y), self.aux(y) if self.training else None

    graph = drawn(channel_graph(Recurrent(), (torch.zeros(3, 3), torch.zeros(1, 3, 4))))
    assert graph["aux.weight 1"] == graph["b.weight 0"] == "AB"


def test_tracing_preserves_state() -> None:
    net = Net(lambda m, x: m.c(m.drop(m.bn(m.a(x)))), a=conv(3, 4), bn=nn.BatchNorm2d(4), drop=nn.Dropout(),
              c=conv(4, 2), unused=nn.Linear(1, 1))  # so that train mode is traced  # fmt: skip
    net.bn.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    stream = torch.get_rng_state()
    graph_of(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [m.training for m in net.modules()] == [True, True, False, True, True, True]
    assert torch.equal(torch.get_rng_state(), stream)


UNTRACED: dict[str, tuple[Forward, str]] = {
    "decides by a value": (lambda m, x: m.a(x) if x.sum() > 0 else m.a(-x), r"needs the value of a tensor.*{here}"),
    "counts by a value": (lambda m, x: m.a(x) * range(int(x.max()))[-1], r"needs the value of a tensor.*{here}"),
    "a shape by values": (lambda m, x: m.a(x[x.mean((1, 2, 3)) > 0]), r"aten.index.*depends on values"),
    "wrong channels": (lambda m, x: m.a(m.a(x)), r"expected input\[2, 4, 4, 4\] to have 3 channels, but got 4.*{here}"),
}


@pytest.mark.parametrize(("compute", "why"), UNTRACED.values(), ids=UNTRACED)
def test_a_network_that_cannot_be_traced_is_an_error_of_one_line(
    compute: Forward, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    why = why.format(here=rf"\(at {re.escape(__file__)}:{Net.forward.__code__.co_firstlineno + 1}, `[^`]+`\)$")
    with pytest.raises(
        ValueError, match=rf"^torch.export cannot trace Net on an example of shape \(2, 3, 4, 4\): .*{why}"
    ):
        graph_of(Net(compute, a=conv(3, 4)))
    assert "def forward" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "counts"),
    [("num_heads", True), ("nhead", True), ("heads", True), ("headroom", False), ("lookahead", False)],
)
def test_numbers_count_heads_by_their_name(name: str, counts: bool) -> None:
    assert _counts_such(nn.Module(), name, of_heads=True) == counts
