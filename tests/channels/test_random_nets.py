"""Law 9 on random networks: whatever the graph calls removable can be removed, and the rest computes the same."""

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.channels.equivalence.certificate import EquivalenceCheck
from prunelab.channels.surgery import shrink
from prunelab.channels.tracing.graph import channel_graph
from prunelab.channels.units import Channels
from prunelab.core.allocation import Uniform
from prunelab.core.network.living_norms import take_notice
from prunelab.core.network.prunable import prunable_weights

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
MAX = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVG = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
PAD = {1: nn.ConstantPad1d, 2: nn.ConstantPad2d, 3: nn.ConstantPad3d}


class Do(nn.Module):
    """Computes `does` with these parts."""

    def __init__(self, does: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.does = does
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, Tensor) else part)

    def forward(self, *x: Tensor) -> Any:
        return self.does(self, *x)


class Dice(random.Random):
    """Draws random parts of a network with `d` spatial axes."""

    d = 2

    def conv(self, a: int, b: int, k: int = 1, **how: Any) -> nn.Module:
        how.setdefault("bias", self.random() < 0.5)
        return CONV[self.d](a, b, k, padding=k // 2 * how.get("dilation", 1), **how)

    def any_conv(self, a: int, b: int) -> nn.Module:
        how = self.choice([{"k": 1}, {"k": 3}, {"k": 3, "dilation": 2}, {"k": 3, "groups": 2}, {"k": 3, "groups": 4}])
        return self.conv(a, b, **how)

    def act(self) -> nn.Module:
        return self.choice([nn.ReLU(self.random() < 0.5), nn.SiLU(), nn.GELU(), nn.Hardswish(True), nn.Sigmoid()])

    def norm(self, c: int) -> nn.Module:
        kinds = [NORM[self.d](c), NORM[self.d](c, affine=False), nn.GroupNorm(4, c), INSTANCE[self.d](c, affine=True)]
        return self.choice([*kinds, nn.PReLU(c), nn.PReLU(), nn.Identity(), NORM[self.d](c)])

    def layer(self, a: int, b: int) -> nn.Sequential:
        return nn.Sequential(self.any_conv(a, b), self.norm(b), self.act())

    def wide(self, c: int) -> Tensor:
        """A parameter with one number per channel, in the shape of a value."""
        return torch.randn(1, c, *[1] * self.d)

    def piece(self, c: int, depth: int) -> tuple[nn.Module, int]:
        """A part with `c` input channels, and its number of output channels."""
        kinds = SIMPLE if depth <= 0 else SIMPLE + NESTED * 2
        return self.choice(kinds)(self, c, depth)

    def body(self, c: int, depth: int, out: int | None = None) -> nn.Sequential:
        """Pieces that end in `out` channels."""
        parts: list[nn.Module] = []
        now = c
        for _ in range(self.randint(1, 2)):
            part, now = self.piece(now, depth - 1)
            parts.append(part)
        return nn.Sequential(*parts, self.any_conv(now, out or c))


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]


def shuffle(x: Tensor, groups: int) -> Tensor:
    return x.reshape(x.shape[0], groups, -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape)


def space(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


def into(x: Tensor, start: Tensor) -> Tensor:
    """Writes `x` into a view of another value."""
    out = start.contiguous()
    out.view(x.shape[0], -1).add_(x.flatten(1))
    return out * 1


def same(does: Callable[..., Any], **parts: Callable[[Dice, int], Any]) -> Callable[[Dice, int, int], tuple]:
    """A piece with as many output as input channels."""
    return lambda dice, c, depth: (Do(does, **{name: make(dice, c) for name, make in parts.items()}), c)


def _layer(dice: Dice, c: int, depth: int) -> tuple[nn.Module, int]:
    out = dice.choice([4, 8, 12, 16])
    return dice.layer(c, out), out


def _depthwise(dice: Dice, c: int, depth: int) -> tuple[nn.Module, int]:
    out = c * dice.choice([1, 2]) if c < 32 else c
    return nn.Sequential(dice.conv(c, out, 3, groups=c), dice.norm(out), dice.act()), out


def _padded(dice: Dice, c: int, depth: int) -> tuple[nn.Module, int]:
    """Option A: zeros replace the channels that the shortcut lacks."""
    before, after = dice.choice([(2, 2), (0, 4), (1, 3)])
    amounts = (0, 0) * dice.d + (before, after)
    pad = PAD[dice.d](amounts, 0.0) if dice.random() < 0.6 else Do(lambda m, x: F.pad(x, amounts))
    return Do(lambda m, x: m.pad(x) + m.body(x), pad=pad, body=dice.body(c, depth, c + 4)), c + 4


def _dense(dice: Dice, c: int, depth: int) -> tuple[nn.Module, int]:
    if c > 24:
        return _residual(dice, c, depth)
    order = dice.choice([lambda x, y: [x, y], lambda x, y: [y, x], lambda x, y: [y, x.clone()]])
    return Do(lambda m, x: torch.cat(order(x, m.body(x)), 1), body=dice.body(c, depth, 4)), c + 4


def _residual(dice: Dice, c: int, depth: int) -> tuple[nn.Module, int]:
    how = dice.choice(
        [
            lambda m, x: x + m.body(x),
            lambda m, x: m.body(x).add_(x),
            lambda m, x: torch.maximum(m.body(x), x),
            lambda m, x: x * torch.sigmoid(m.body(x)),
            lambda m, x: torch.stack([x, m.body(x)], 1).mean(1),
            lambda m, x: torch.cat([x, m.body(x)], 2).chunk(2, 2)[1],
            lambda m, x: m.body(m.body(x)),
            lambda m, x: torch.where(x > 0, x, m.body(x)),
            lambda m, x: torch.lerp(x, m.body(x), 0.3),
        ]
    )
    return Do(how, body=dice.body(c, depth)), c


def _half(dice: Dice, c: int, depth: int) -> tuple[nn.Module, int]:
    """Splits the channels, works on a part, and concatenates them."""
    if c % 8:
        return _residual(dice, c, depth)
    part = dice.choice([halves, lambda x: x.chunk(2, 1), lambda x: x.split(x.shape[1] // 2, 1)])
    how = dice.choice(
        [
            lambda m, a, b: torch.cat([a, m.body(b)], 1),
            lambda m, a, b: torch.cat([m.body(b), a.relu_()], 1),
            lambda m, a, b: torch.cat([a.add_(m.body(b)), b], 1),
            lambda m, a, b: shuffle(torch.cat([a, m.body(b)], 1), 2),
            lambda m, a, b: torch.cat([a * b.sigmoid(), m.body(a)], 1),
        ]
    )
    return Do(lambda m, x: how(m, *part(x)), body=dice.body(c // 2, depth)), c


def _tied(dice: Dice, c: int, depth: int) -> tuple[nn.Module, int]:
    a, b = dice.conv(c, c, 3, groups=(g := dice.choice([1, 2])), bias=True), dice.conv(c, c, 3, groups=g, bias=True)
    b.weight = a.weight
    if dice.random() < 0.5:
        b.bias = a.bias
    return nn.Sequential(a, dice.norm(c), dice.act(), b), c


def _transposed(dice: Dice, c: int, depth: int) -> tuple[nn.Module, int]:
    """A weight with a second, unknown use."""
    lin = nn.Linear(c, c)
    return Do(lambda m, x: F.linear(m.other(x.movedim(1, -1)), m.lin.weight.t()).movedim(-1, 1) + m.lin(
        x.movedim(1, -1)).movedim(-1, 1), lin=lin, other=nn.Linear(c, c)), c  # fmt: skip


Piece = Callable[[Dice, int, int], tuple[nn.Module, int]]
KNOWN: dict[str, Piece] = {
    "squeeze and excite": same(
        lambda m, x: x * m.b(F.relu(m.a(x.mean(space(x), keepdim=True)))).sigmoid(),
        a=lambda dice, c: dice.conv(c, 4), b=lambda dice, c: dice.conv(4, c)),
    "squeeze and excite, linear": same(
        lambda m, x: x * m.b(F.relu(m.a(x.mean(space(x)))))[(...,) + (None,) * len(space(x))].sigmoid(),
        a=lambda dice, c: nn.Linear(c, 4), b=lambda dice, c: nn.Linear(4, c)),
    "gate, expanded": same(
        lambda m, x: x * m.a(x).mean(space(x), keepdim=True).expand(-1, -1, *x.shape[2:]).sigmoid(),
        a=lambda dice, c: dice.conv(c, c)),
    "scale": same(lambda m, x: x * m.scale, scale=lambda dice, c: dice.wide(c)),
    "scale, shift": same(
        lambda m, x: m.scale * x + m.shift, scale=lambda dice, c: dice.wide(c)[0], shift=lambda dice, c: torch.ones(1)),
    "places": same(lambda m, x: x + m.place, place=lambda dice, c: torch.randn(1, c, *[4] * dice.d)),
    "a ramp": same(lambda m, x: x + torch.linspace(0, 1, x.shape[-1])),
    "spatial attention": same(lambda m, x: x * torch.sigmoid(m.a(x)), a=lambda dice, c: dice.conv(c, 1)),
    "shuffle": same(lambda m, x: shuffle(x, 2)),
    "shuffle by function": same(lambda m, x: F.channel_shuffle(x, 2)),
    "channels last": same(
        lambda m, x: m.lin(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:]),
        lin=lambda dice, c: nn.Sequential(nn.Linear(c, 2 * c), nn.GELU(), nn.Linear(2 * c, c))),
    "scale, channels last": same(
        lambda m, x: (m.scale * m.lin(x.movedim(1, -1))).movedim(-1, 1),
        lin=lambda dice, c: nn.Linear(c, c), scale=lambda dice, c: torch.randn(c)),
    "pooling": same(lambda m, x: m.max(m.avg(x)), max=lambda dice, c: MAX[dice.d](3, 1, 1),
                    avg=lambda dice, c: AVG[dice.d](3, 1, 1)),
    "interpolation": same(lambda m, x: F.interpolate(F.interpolate(x, scale_factor=0.5), size=x.shape[2:])),
    "centred": same(lambda m, x: x - x.mean(space(x), keepdim=True)),
    "flipped": same(lambda m, x: x.flip(1)),
    "one layer twice": same(lambda m, x: m.conv(m.act(m.conv(x))), conv=lambda dice, c: dice.conv(c, c),
                            act=lambda dice, c: dice.act()),
    "one norm twice": same(lambda m, x: m.norm(x) + m.norm(m.conv(x)), conv=lambda dice, c: dice.conv(c, c),
                           norm=lambda dice, c: dice.norm(c)),
    "dropout": same(lambda m, x: F.dropout(m.drop(x), 0.3, m.training), drop=lambda dice, c: nn.Dropout(0.5)),
    "convolution by function": same(
        lambda m, x: getattr(F, f"conv{len(space(x))}d")(x, m.weight, m.bias, padding=1),
        weight=lambda dice, c: torch.randn(c, c, *[3] * dice.d) / c, bias=lambda dice, c: torch.randn(c)),
    "precision": same(lambda m, x: x.double().float().abs()),
    "there and back": same(lambda m, x: x.unsqueeze(1).squeeze(1).movedim(1, -1).movedim(-1, 1)),
    "apart and back": same(lambda m, x: x.unflatten(1, (2, -1)).flatten(1, 2)),
    "quarters": same(lambda m, x: torch.cat(x.chunk(4, 1)[::-1], 1)),
    "roll in space": same(lambda m, x: x.roll(1, 2)),
    "stacked": same(lambda m, x: torch.stack([x, m.a(x)]).mean(0), a=lambda dice, c: dice.conv(c, c)),
    "batches in a row": same(lambda m, x: torch.cat([x, m.a(x)], 0)[x.shape[0] :], a=lambda dice, c: dice.conv(c, c)),
    "halves of a sum": same(lambda m, x: torch.cat([x, m.a(x)], 1).unflatten(1, (2, -1)).sum(1),
                            a=lambda dice, c: dice.conv(c, c)),
    "in place on a view": same(  # contiguous: else the memory format decides whether flatten copies
        lambda m, x: (y := m.a(x).contiguous(), y.flatten(1).mul_(2), y[:, : y.shape[1] // 2].relu_(), y)[-1],
        a=lambda dice, c: dice.conv(c, c)),
    "groups over a sum": same(lambda m, x: m.b(torch.cat([x, m.a(x)], 1)), a=lambda dice, c: dice.conv(c, c),
                              b=lambda dice, c: nn.Sequential(nn.GroupNorm(4, 2 * c), dice.conv(2 * c, c))),
    "layer norm": same(lambda m, x: m.norm(x.movedim(1, -1)).movedim(-1, 1), norm=lambda dice, c: nn.LayerNorm(c)),
    "attention of torch": same(
        lambda m, x: m.mha(*[x.flatten(2).transpose(1, 2)] * 3)[0].transpose(1, 2).unflatten(2, x.shape[2:]),
        mha=lambda dice, c: nn.MultiheadAttention(c, 2, batch_first=True)),
    "scale that is moved": same(lambda m, x: x * m.scale.view(-1, *[1] * len(space(x))),
                                scale=lambda dice, c: torch.randn(c)),
    "transposed": same(lambda m, x: F.gelu(m.conv(x)),
                       conv=lambda dice, c: getattr(nn, f"ConvTranspose{dice.d}d")(c, c, 1)),
    "root mean square": same(lambda m, x: x / (x.square().mean(space(x), keepdim=True) + 1e-3).sqrt()),
    "softsign": same(lambda m, x: F.softsign(x) + F.normalize(x, dim=-1)),
    "transposed in groups": same(lambda m, x: m.conv(x), conv=lambda dice, c: getattr(
        nn, f"ConvTranspose{dice.d}d")(c, c, 1, groups=dice.choice([2, 4, c]))),
    "gated linear unit": same(lambda m, x: F.glu(m.a(x), 1), a=lambda dice, c: dice.conv(c, 2 * c)),
    "even and odd": same(lambda m, x: torch.cat([m.a(x[:, ::2]), x[:, 1::2]], 1),
                         a=lambda dice, c: dice.conv(c // 2, c // 2)),
    "from an index on": same(lambda m, x: torch.cat([x[:, 3:], m.a(x[:, :3])], 1),
                             a=lambda dice, c: dice.conv(3, 3)),
    "softmax in space": same(lambda m, x: x.softmax(-1) + x.cumsum(2) + x.std(space(x), keepdim=True)),
    "matmul in space": same(lambda m, x: x @ torch.ones(x.shape[-1], x.shape[-1])),
    "compared": same(lambda m, x: torch.erf(x).masked_fill(x < m.a(x), 0.5), a=lambda dice, c: dice.conv(c, c)),
    "constants beside": same(lambda m, x: m.a(torch.cat([torch.ones(x.shape[0], 1, *x.shape[2:]), x], 1)),
                             a=lambda dice, c: dice.conv(c + 1, c)),
    "tokens": same(
        lambda m, x: (torch.cat([m.token.abs().expand(x.shape[0], -1, -1), x.flatten(2).mT + m.place[1:]], 1)
                      * m.place)[:, 1:].mT.unflatten(2, x.shape[2:]),
        token=lambda dice, c: torch.randn(1, 1, c), place=lambda dice, c: torch.randn(4**dice.d + 1, c)),
    "batch of channels": same(lambda m, x: m.a(x.flatten(0, 1).flatten(1).unsqueeze(1)).view(x.shape),
                              a=lambda dice, c: nn.Conv1d(1, 1, 3, padding=1)),
}  # fmt: skip
UNKNOWN: dict[str, Piece] = {
    "one over it": same(lambda m, x: x / (x.exp() - 1)),
    "softmax": same(lambda m, x: x.softmax(1)),
    "attention": same(lambda m, x: ((y := x.flatten(2)) @ y.transpose(1, 2) @ y).unflatten(2, x.shape[2:])),
    "cumulative sum": same(lambda m, x: x.cumsum(1)),
    "roll of channels": same(lambda m, x: x.roll(1, 1)),
    "sorted": same(lambda m, x: x.sort(1)[0]),
    "sum over channels": same(lambda m, x: x + x.sum(1, keepdim=True)),
    "attention by channels": same(
        lambda m, x: x * torch.sigmoid(m.a(torch.cat([x.mean(1, True), x.amax(1, True)], 1))),
        a=lambda dice, c: dice.conv(2, 1)),
    "by index": same(lambda m, x: x[:, torch.arange(x.shape[1] - 1, -1, -1)]),
    "log": same(lambda m, x: (x.abs() + 1).log()),
    "norm of channels": same(lambda m, x: x / (1 + x.norm(dim=1, keepdim=True))),
    "unbound": same(lambda m, x: torch.stack(x.unbind(1)[::-1], 1)),
    "by number": same(lambda m, x: x + x[:, 1].unsqueeze(1)),
    "one for all": same(lambda m, x: x + x[:, 0:1]),
    "stacked behind": same(lambda m, x: torch.stack([x, x], -1).amax(1, True).amax(-1) + x),
    "pooled channels": same(
        lambda m, x: F.max_pool1d(x.flatten(2).transpose(1, 2), 3, 1, 1).transpose(1, 2).reshape(x.shape)),
    "into zeros like it": same(lambda m, x: into(x, x.new_zeros(x.shape))),
    "into zeros": same(lambda m, x: into(x, torch.zeros(x.shape))),
    "a part is written": same(lambda m, x: (y := x.clone(), y.__setitem__((slice(None), slice(2)), x[:, :2]), y)[-1]),
    "norm without scale": same(lambda m, x: m.inst(x), inst=lambda dice, c: INSTANCE[dice.d](c)),
    "convolution over channels": same(
        lambda m, x: x * m.a(x.flatten(2).mean(2).unsqueeze(1)).mT[(...,) + (None,) * (len(space(x)) - 1)],
        a=lambda dice, c: nn.Conv1d(1, 1, 3, padding=1)),
    "negative padding": same(lambda m, x: F.pad(x, (0, 0) * len(space(x)) + (-2, 2))),
}  # fmt: skip
ODD: list[Piece] = [  # weights with another use: their channels stay
    same(lambda m, x: m.conv(x) + m.conv.weight.mean(), conv=lambda dice, c: dice.conv(c, c)),
    same(lambda m, x: m.conv(x), conv=lambda dice, c: nn.utils.parametrizations.weight_norm(dice.conv(c, c))),
    same(lambda m, x: m.conv(x), conv=lambda dice, c: nn.utils.parametrizations.spectral_norm(dice.conv(c, c))),
    _transposed,
]
SIMPLE = [_layer] * 12 + [_depthwise] * 3 + [_tied, *ODD, *KNOWN.values()]
NESTED = [_padded, _dense, _residual, _residual, _half, _half]


class RandomNet(nn.Module):
    """Pieces on one or two inputs, and a head that reads a map of 4^d, 2^d or 1 positions."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        dice = Dice(seed)
        dice.d = dice.choice([1, 2, 2, 2, 3])
        self.inputs, self.outputs = dice.choice([1, 1, 1, 2]), dice.choice([1, 1, 2])
        c = dice.choice([8, 16])
        self.stems = nn.ModuleList(dice.conv(4, c, 3) for _ in range(self.inputs))
        parts = []
        for _ in range(dice.randint(2, 5)):
            part, c = dice.piece(c, 2)
            parts.append(part)
            if dice.random() < 0.3:
                part, c = dice.choice(list(UNKNOWN.values()))(dice, c, 0)
                parts.append(part)
        self.parts = nn.Sequential(*parts)
        self.pool = MAX[dice.d](size) if (size := dice.choice([1, 2, 4])) > 1 else nn.Identity()
        wide = c * (4 // size) ** dice.d
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(wide, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        self.d = dice.d

    def forward(self, *x: Tensor) -> Any:
        value = sum(stem(one) for stem, one in zip(self.stems, x, strict=True))
        value = self.parts(value)
        logits = self.head(self.pool(value))
        return (logits, {"map": value}) if self.outputs == 2 else logits


def random_net(seed: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(seed)
    net = RandomNet(seed)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return net, tuple(torch.randn(3, 4, *[4] * net.d) for _ in range(net.inputs))


def cut_at_random(net: nn.Module, example: tuple[Tensor, ...], seed: int) -> float:
    """Masks, shrinks and compares; returns the share of filters removed, 0 where all must stay."""
    if not channel_graph(net, example).groups:
        with pytest.raises(ValueError, match="no filters or neurons to prune"):
            Channels().bind(net, prunable_weights(net), example)
        return 0.0
    units = Channels().bind(net, prunable_weights(net), example)
    g = torch.Generator().manual_seed(seed)
    scores = {name: torch.rand(len(numbers), generator=g) for name, numbers in units.numbers.items()}
    keep = Uniform()(scores, 0.3 + 0.5 * float(torch.rand(1, generator=g)))
    masks = units.expand(keep)
    with torch.no_grad():
        for name, mask in masks.items():
            net.get_parameter(name).mul_(mask)
    take_notice(net, units.norms, masks)
    witness = EquivalenceCheck(net, example)
    shrink(net, units.plan(keep))
    witness.certify(net)
    return sum(float((~kept).sum()) for kept in keep.values()) / sum(len(kept) for kept in keep.values())


def test_removable_channels_can_be_removed() -> None:
    """From networks that together reach every line of prunelab.channels that the first forty reach."""
    for seed in (3, 16, 23, 24, 28, 33, 34, 35, 36, 38, 39):
        assert cut_at_random(*random_net(seed), seed) > 0  # else the graph would be safe but useless


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_removable_channels_can_be_removed_from_hundreds_of_networks() -> None:
    went = []
    for seed in range(325):
        net, example = random_net(seed)
        went += [cut_at_random(copy.deepcopy(net), example, draw) for draw in range(2)]
    assert sum(share > 0 for share in went) / len(went) > 0.95


def around(piece: Piece, d: int) -> nn.Module:
    """A layer, the piece, and two layers."""
    dice = Dice(0)
    dice.d = d
    part, c = piece(dice, 8, 0)
    return nn.Sequential(dice.conv(4, 8), part, dice.conv(c, 8), dice.conv(8, 2))


@pytest.mark.parametrize("d", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_channels_pass_known_operations_and_stay_at_unknown_ones(d: int) -> None:
    """All side by side in one network, which is traced once."""
    names = [*KNOWN, *UNKNOWN]
    nets = nn.ModuleList(around(piece, d) for piece in [*KNOWN.values(), *UNKNOWN.values()])
    graph = channel_graph(Do(lambda m, x: [net(x) for net in m.nets], nets=nets), torch.zeros(2, 4, *[4] * d))
    for i, name in enumerate(names):
        assert ((f"nets.{i}.0.weight", 0) in graph.places) == (name in KNOWN), name
        assert (f"nets.{i}.2.weight", 0) in graph.places or name == "into zeros", name  # its result is unknown
        if name in UNKNOWN:
            why = graph.stays[f"nets.{i}.0.weight"]
            assert f"called in nets.{i}.1" in why or "a single unit" in why, name
