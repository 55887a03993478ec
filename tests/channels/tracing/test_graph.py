"""Channel graphs worked out by hand. A letter is a unit; a dot is a position that stays."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.channels.tracing.graph import ChannelGraph, channel_graph

Forward = Callable[..., Any]


class Net(nn.Module):
    """The given parts and forward pass; x has 3 channels."""

    def __init__(self, forward: Forward, **parts: Any) -> None:
        super().__init__()
        self.compute = forward
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, Tensor) else part)

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
        Net(lambda m, x: m.out(torch.cat([m.b((y := m.a(x))[:, :2]), y[:, 2:]], 1)),
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
    "tied weights": (
        Net(lambda m, x: m.out(m.b(m.a(m.stem(x)).relu())), stem=conv(3, 2), a=(tied := conv(2, 2)),
            b=nn.Sequential(tied), out=conv(2, 2)),
        {"stem.weight 0": "AB", "a.weight 1": "AB", "a.weight 0": "AB", "out.weight 1": "AB"},
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
    assert graph.stays.keys() <= {"out.weight", "b.weight"}
    assert graph.stays["out.weight"] == "the output of the network"


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
    "layer_norm": (lambda m, y: F.layer_norm(y, y.shape[1:]), "aten.layer_norm"),
    "matmul": (lambda m, y: (y.transpose(1, 3) @ y.transpose(1, 3)).transpose(1, 3), "aten.matmul of channels"),
    "sort": (lambda m, y: y.sort(1)[0], "aten.sort"),
    "sum over channels": (lambda m, y: y + y.sum(1, True), "aten.sum over channels"),
    "roll of channels": (lambda m, y: y.roll(1, 1), "aten.roll of channels by index"),
    "unequal parts": (lambda m, y: torch.cat(y.split([1, 3], 1)[::-1], 1), "aten.split_with_sizes of channels"),
    "every second channel": (lambda m, y: y[:, ::2].repeat(1, 2, 1, 1), "aten.slice of channels"),
    "pooling of channels": (
        lambda m, y: F.max_pool2d(y.transpose(1, 3), 3, 1, 1).transpose(1, 3), "aten.max_pool2d over channels"),
    "an empty list of axes": (lambda m, y: y * y.amax(()), "aten.amax over everything"),
    "log": (lambda m, y: y.log(), "aten.log"),
    "transposed convolution": (lambda m, y: F.conv_transpose2d(y, m.other), "aten.conv_transpose2d"),
    "parametrised": (lambda m, y: F.conv2d(y, m.other * 2), "aten.conv2d with computed weights"),
    "groups of nobody": (lambda m, y: F.conv2d(y, m.other[:, :1] + 0, groups=4), "aten.conv2d with computed weights"),
    "instance norm without scale": (lambda m, y: F.instance_norm(y), "aten.instance_norm without a scale"),
    "group norm of no module": (lambda m, y: F.group_norm(y, 2, m.ones), "aten.group_norm without a scale, outside"),
    "a second use of a weight": (lambda m, y: y + m.first.weight.mean(), "aten.mean of it"),
    "a number computed from all": (lambda m, y: y * y.sum().item(), "aten.sum over everything"),
    "in place on a constant": (lambda m, y: torch.zeros(y.shape).add_(y), "aten.add_ in place"),
}  # fmt: skip


@pytest.mark.parametrize(("compute", "op"), UNKNOWN.values(), ids=UNKNOWN)
def test_channels_of_unknown_operations_stay_with_the_reason_and_no_others(compute: Forward, op: str) -> None:
    odd = Net(compute, other=torch.randn(4, 4, 1, 1), ones=torch.ones(4))
    odd.__dict__["first"] = first = conv(3, 4)  # not registered as a submodule: it has another name
    net = nn.Sequential(first, nn.Sequential(nn.ReLU(), odd), conv(4, 5), conv(5, 2))
    graph = graph_of(net)
    assert drawn(graph) == {"2.weight 0": "ABCDE", "3.weight 1": "ABCDE"}
    assert re.match(rf"{re.escape(op)}.*, called in 1\.1 \(Net\)", graph.stays["0.weight"])
    assert graph.stays.keys() - {"1.1.other"} == {"0.weight", "3.weight"}


def test_layers_used_only_in_training_are_coupled_too() -> None:
    """An auxiliary head, which must lose the channels that its input loses."""
    net = Net(lambda m, x: (m.out(y := m.a(x)), m.aux(y)) if m.training else m.out(m.a(x)),
              a=conv(3, 2), out=conv(2, 2), aux=conv(2, 2)).eval()  # fmt: skip
    graph = graph_of(net)
    assert drawn(graph) == {"a.weight 0": "AB", "out.weight 1": "AB", "aux.weight 1": "AB"}
    assert not net.training


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
