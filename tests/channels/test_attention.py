"""Attention heads and streams under layer norms: removed, certified, and compared with cuts by hand."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from attention_nets import (
    EXAMPLE,
    Block,
    ChannelNorm,
    Encoder,
    Fused,
    Patches,
    Tokens,
    encoder_layers,
    fused,
    scrambled,
    separate,
    torchs,
    with_weights,
)  # fmt: skip
from torch import Tensor, nn

import prunelab
from prunelab.channels.cost_model import CostModel
from prunelab.channels.equivalence.certificate import EquivalenceCheck, EquivalenceError
from prunelab.channels.plan import Plan
from prunelab.channels.slim_attention import SlimAttention
from prunelab.channels.surgery import shrink
from prunelab.channels.tracing.graph import channel_graph
from prunelab.channels.units import Channels, Filter, Head, Neuron, Stream
from prunelab.core.network.living_norms import LivingNorm, take_notice
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.types import Masks
from prunelab.measure.macs import costs_by_weight
from prunelab.measure.profiler import network_cost

NETS: dict[str, Callable[[], nn.Module]] = {
    "fused": fused, "separate": separate, "nn.MultiheadAttention": torchs, "need_weights": with_weights,
    "nn.TransformerEncoder": encoder_layers,
}  # fmt: skip


def bound(net: nn.Module, units: Channels, example: Tensor = EXAMPLE) -> Channels:
    return units.bind(net, prunable_weights(net), example)


def some(units: Channels) -> Masks:
    """Every second unit of each group, of heads the first."""
    return {name: torch.arange(len(numbers)) % 2 == 0 for name, numbers in units.numbers.items()}


def mask(net: nn.Module, units: Channels, keep: Masks) -> None:
    masks = units.expand(keep)
    with torch.no_grad():
        for name, kept in masks.items():
            net.get_parameter(name).mul_(kept)
    take_notice(net, units.norms, masks)


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
@pytest.mark.parametrize("units", [Head(), Stream(), Channels()], ids=["head", "stream", "channels"])
def test_the_small_network_computes_what_the_masked_one_did(make: Callable[[], nn.Module], units: Channels) -> None:
    torch.manual_seed(0)
    net = scrambled(make())
    units = bound(net, units)
    keep, x, names = some(units), torch.randn(4, 5, 3), list(net.state_dict())
    mask(net, units, keep)
    check = EquivalenceCheck(net, x)
    shrink(net, Plan.from_json(json.loads(json.dumps(units.plan(keep).to_json()))))
    check.certify(net)
    assert list(net.state_dict()) == names
    assert not any(isinstance(module, LivingNorm) for module in net.modules())


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
@pytest.mark.parametrize("units", [Head(), Channels()], ids=["head", "channels"])
def test_the_small_network_counts_the_macs_that_a_budget_foretells(
    make: Callable[[], nn.Module], units: Channels
) -> None:
    net = make()
    units = bound(net, units)
    keep, model = some(units), CostModel.of(net, units, costs_by_weight(net, EXAMPLE))
    foretold = model.cost(torch.stack([model.whole, model.left(keep)], 1))
    dense = network_cost(net, EXAMPLE).macs
    shrink(net, units.plan(keep))
    assert foretold.tolist() == pytest.approx([dense, network_cost(net, EXAMPLE).macs])


def test_heads_removed_from_torchs_attention_take_their_macs_along() -> None:
    net, name = torchs(), "blocks.0.attn.attn"
    before = costs_by_weight(net, EXAMPLE)
    units = bound(net, Head())
    shrink(net, units.plan({f"{name}.in_proj_weight": torch.tensor([True, False, False])}))
    one_head = {f"{name}.in_proj_weight": 5 * 12 * 3 * 4, f"{name}.out_proj.weight": 5 * 4 * 12}
    assert costs_by_weight(net, EXAMPLE) == before | one_head
    assert all(before[weight] == 3 * macs for weight, macs in one_head.items())


def test_kinds_of_units_and_what_a_stream_and_a_head_are_made_of() -> None:
    graph = channel_graph(fused(), EXAMPLE)
    assert {group.name: (group.kind, len(group.units)) for group in graph.groups} == {
        "embed.weight": ("stream", 12),
        "blocks.0.attn.qkv.weight": ("head", 3),
        "blocks.0.mlp.0.weight": ("linear", 10),
        "blocks.1.attn.qkv.weight": ("head", 2),
        "blocks.1.mlp.0.weight": ("linear", 10),
    }
    heads = graph.groups[1].units
    rows = heads.repeat_interleave(4)
    assert torch.equal(graph.places["blocks.0.attn.qkv.weight", 0], rows.repeat(3))
    assert torch.equal(graph.places["blocks.0.attn.proj.weight", 1], rows)
    assert graph.norms == {f"{name}.weight": -1 for name in ("blocks.0.norm1", "blocks.0.norm2", "blocks.1.norm1",
                                                             "blocks.1.norm2", "norm")}  # fmt: skip


def test_a_head_removed_by_hand_leaves_the_same_network() -> None:
    net, x = scrambled(Fused(6, 3)), torch.randn(2, 5, 6)
    whole = nn.Sequential(nn.Linear(6, 6), net, nn.Linear(6, 2))
    units = bound(whole, Head(), torch.zeros(2, 5, 6))
    by_hand = Fused(6, 2)
    rows = torch.cat([torch.arange(3 * 4).view(3, 4)[[0, 2]].flatten() + 12 * i for i in range(3)])
    by_hand.qkv.weight.data, by_hand.qkv.bias.data = net.qkv.weight[rows], net.qkv.bias[rows]
    by_hand.proj.weight.data, by_hand.proj.bias.data = net.proj.weight[:, rows[:8]], net.proj.bias
    shrink(whole, units.plan({"1.qkv.weight": torch.tensor([True, False, True])}))
    assert (net.num_heads, net.head_dim, net.attn_dim) == (2, 4, 8)
    assert torch.equal(net(x), by_hand(x))


EMBEDDED = {"patches": (Patches, torch.randn(2, 3, 12, 12)), "tokens": (Tokens, torch.randint(0, 20, (2, 7)))}


@pytest.mark.parametrize(("make", "x"), EMBEDDED.values(), ids=EMBEDDED)
def test_embeddings_and_class_tokens_are_cut_with_their_stream(make: Callable[[], nn.Module], x: Tensor) -> None:
    net = scrambled(make())
    units = bound(net, Channels(), x)
    assert {group.kind for group in units.groups} == {"stream", "head", "linear"}
    keep = some(units)
    mask(net, units, keep)
    check = EquivalenceCheck(net, x)
    shrink(net, units.plan(keep))
    check.certify(net)
    if isinstance(net, Patches):
        assert (net.cls_token.shape, net.pos_embed.shape) == ((1, 1, 6), (1, 10, 6))
        assert (net.hidden_dim, net.image_size) == (6, 12)
    else:
        assert (net.tokens.embedding_dim, net.positions.weight.shape) == (6, (9, 6))


def test_a_number_that_happens_to_be_that_of_the_heads_is_left_alone() -> None:
    net = Encoder(Block(12, Fused(12, 4)))
    net.blocks[0].attn.depth = 4  # type: ignore[union-attr]
    plan = bound(net, Head()).plan({"blocks.0.attn.qkv.weight": torch.tensor([True, True, True, False])})
    assert plan.counts == {("blocks.0.attn", "num_heads"): 3, ("blocks.0.attn", "attn_dim"): 12}


def test_torchs_attention_keeps_its_parameters_and_can_be_cut_again() -> None:
    net = scrambled(torchs())
    attention, before = net.blocks[0].attn.attn, dict(net.named_parameters())
    for keep in ([True, True, False], [True, False]):
        units = bound(net, Head())
        kept = {"blocks.0.attn.attn.in_proj_weight": torch.tensor(keep)}
        mask(net, units, kept)
        check = EquivalenceCheck(net, torch.randn(2, 5, 3))
        shrink(net, units.plan(kept))
        check.certify(net)
    assert isinstance(attention, SlimAttention)
    assert attention.num_heads == 1
    assert all(p is before[name] for name, p in net.named_parameters())


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("mask_of", [None, "bool", "float", "heads", "padding", "both"])
def test_slim_attention_is_torchs_with_fewer_heads(batch_first: bool, mask_of: str | None) -> None:
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(12, 3, batch_first=batch_first).eval()
    slim = SlimAttention(12, 3, batch_first=batch_first).eval()
    slim.load_state_dict(plain.state_dict())
    x = torch.randn(2, 5, 12) if batch_first else torch.randn(5, 2, 12)
    hidden = torch.zeros(5, 5, dtype=torch.bool).masked_fill(torch.ones(5, 5).triu(1) > 0, True)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    masks = {
        None: {}, "bool": {"attn_mask": hidden}, "float": {"attn_mask": hidden.float() * -1e3},
        "heads": {"attn_mask": hidden.float().repeat(6, 1, 1) * -torch.arange(6.0)[:, None, None]},
        "padding": {"key_padding_mask": padding}, "both": {"key_padding_mask": padding, "attn_mask": hidden},
    }[mask_of]  # fmt: skip
    for options in ({"need_weights": False}, {"need_weights": True}, {"average_attn_weights": False}):
        expected, weights = plain(x, x, x, **masks, **options)
        out, found = slim(x, x, x, **masks, **options)
        torch.testing.assert_close(out, expected)
        assert (found is None) == (weights is None)
        if weights is not None:
            torch.testing.assert_close(found, weights)


@torch.no_grad()
def test_in_eval_mode_a_fused_kernel_computes_the_same_or_is_left_out() -> None:
    def without_kernel() -> Tensor:
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            return net(x)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)

    net, x = scrambled(encoder_layers()).eval(), torch.randn(2, 5, 3)
    units = bound(net, Channels())
    keep = some(units)
    mask(net, units, keep)
    torch.testing.assert_close(net(x), without_kernel())
    shrink(net, units.plan(keep))
    torch.testing.assert_close(net(x), without_kernel())


def test_slim_attention_of_two_values_is_refused() -> None:
    x, y = torch.randn(2, 5, 12), torch.randn(2, 5, 12)
    with pytest.raises(ValueError, match="as of one value with itself"):
        SlimAttention(12, 3, batch_first=True)(x, y, y)


class Averaged(Fused):
    """Averages over its heads."""

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = (q @ k.transpose(-1, -2)).softmax(-1).mean(1, keepdim=True)
        return self.proj((weights * q.shape[-1] ** -0.5 @ v).transpose(1, 2).reshape(*x.shape[:2], self.attn_dim))


class One(nn.Module):
    """Attention of one head, whose channels are in the scale."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(12, 12) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(nn.functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x)))


@pytest.mark.parametrize(
    ("attention", "reason"),
    [(Averaged(12, 3), "aten.mean over channels, called in blocks.0.attn (Averaged)"),
     (One(), "aten.scaled_dot_product_attention of channels that are not whole heads, called in blocks.0.attn (One)")],
    ids=["averaged", "one"],
)  # fmt: skip
def test_another_layout_of_heads_is_named_and_kept(
    attention: nn.Module, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    net = scrambled(Encoder(Block(12, attention)))
    with caplog.at_level(logging.WARNING):
        units = bound(net, Channels())
    assert reason in caplog.text
    assert {group.kind for group in units.groups} == {"stream", "linear"}


def test_filters_and_neurons_do_not_pass_through_layer_norms() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), ChannelNorm(8), nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1))
    image = torch.zeros(1, 3, 4, 4)
    assert list(bound(net, Filter(), image).numbers) == ["2.weight"]
    assert list(bound(net, Stream(), image).numbers) == ["0.weight"]
    assert bound(net, Stream(), image).norms == {"1.weight": 1}
    assert list(bound(fused(), Neuron()).numbers) == ["blocks.0.mlp.0.weight", "blocks.1.mlp.0.weight"]


@pytest.mark.parametrize(
    ("norm", "reason"),
    [(nn.LayerNorm(8, elementwise_affine=False), "without a module that holds its scale"),
     (nn.LayerNorm([5, 8]), "over more than channels")],
    ids=["no scale", "positions too"],
)  # fmt: skip
def test_norms_that_cannot_be_cut_keep_their_channels(norm: nn.Module, reason: str) -> None:
    graph = channel_graph(nn.Sequential(nn.Linear(3, 8), norm, nn.Linear(8, 2)), EXAMPLE)
    assert not graph.groups
    assert reason in graph.stays["0.weight"]


def test_norms_within_heads_and_over_positions_couple_nothing() -> None:
    class Normed(Fused):
        def __init__(self) -> None:
            super().__init__(12, 3)
            self.q_norm = nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            qkv = self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
            out = nn.functional.scaled_dot_product_attention(self.q_norm(q), k, v)
            return self.proj(out.transpose(1, 2).reshape(*x.shape[:2], self.attn_dim))

    net = scrambled(Encoder(Block(12, Normed())))
    units = bound(net, Head())
    keep = some(units)
    mask(net, units, keep)
    check = EquivalenceCheck(net, torch.randn(2, 5, 3))
    shrink(net, units.plan(keep))
    check.certify(net)


def test_a_masked_norm_that_does_not_know_is_refused() -> None:
    net = scrambled(separate())
    units = bound(net, Stream())
    keep = some(units)
    mask(net, units, keep)
    take_notice(net, units.norms, {})
    check = EquivalenceCheck(net, torch.randn(4, 5, 3))
    shrink(net, units.plan(keep))
    with pytest.raises(EquivalenceError, match="differs"):
        check.certify(net)


def test_plans_without_counts_read_as_before_and_others_survive_json() -> None:
    old = {"keep": {"a.weight": {"0": [0, 2]}}, "pads": {}, "blocks": {}}
    assert Plan.from_json(old).to_json() == old
    plan = Plan(counts={("net.attn", "num_heads"): 2})
    assert plan
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert plan.below("net").counts == {("attn", "num_heads"): 2}
    assert plan.below("net.attn").counts == {("", "num_heads"): 2}  # of the submodule itself
    assert plan.then(Plan(counts={("net.attn", "num_heads"): 1})).counts == {("net.attn", "num_heads"): 1}
    with pytest.raises(ValueError, match="not a plan"):
        Plan.from_json({**old, "counts": {"attn": {"num_heads": "2"}}})


@pytest.mark.parametrize(
    ("attribute", "count"),
    [("num_heads", 4), ("num_heads", 0), ("training", 0), ("proj", 1), ("no", 1), ("num_heads.0", 1), ("form.2", 1)],
)
def test_a_plan_changes_only_whole_numbers_and_makes_none_larger(attribute: str, count: int) -> None:
    net = Fused(12, 3)
    net.form = (3, 1)
    with pytest.raises(ValueError, match=f"the plan sets attn.{attribute} to {count}"):
        shrink(nn.ModuleDict({"attn": net}), Plan(counts={("attn", attribute): count}))
    assert (net.num_heads, net.form) == (3, (3, 1))


class Scale(nn.Module):
    """As in timm's MetaFormer: a parameter, and the shape in which it is multiplied with images."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shape, self.scale = (width, 1, 1), nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.view(self.shape)


def test_a_shape_that_a_module_holds_of_its_parameter_is_cut_with_it() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 1), Scale(6), nn.GroupNorm(1, 6), nn.Conv2d(6, 2, 1))
    units = bound(net, Channels(), torch.zeros(2, 3, 4, 4))
    keep = some(units)
    mask(net, units, keep)
    check = EquivalenceCheck(net, torch.randn(4, 3, 4, 4))
    plan = units.plan(keep)
    shrink(net, Plan.from_json(json.loads(json.dumps(plan.to_json()))))
    left = len(net[1].scale)
    assert left < 6
    assert (net[1].shape, net[2].num_groups, net[2].num_channels) == ((left, 1, 1), 1, left)
    assert type(net[2]) is nn.GroupNorm
    check.certify(net)


@pytest.mark.parametrize("make", [fused, torchs], ids=["fused", "nn.MultiheadAttention"])
def test_the_small_network_survives_its_file(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    net = scrambled(make()).eval()
    units = bound(net, Channels())
    plan, x = units.plan(some(units)), torch.randn(2, 5, 3)
    shrink(net, plan)
    prunelab.save(tmp_path / "small.safetensors", net, plan, None, {})
    again = prunelab.load(tmp_path / "small.safetensors", into=make())
    assert torch.equal(again(x), net(x))
