"""MACs and zeros against values worked out by hand."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

from prunelab.measure.macs import costs_by_weight, uses
from prunelab.measure.profiler import network_cost
from prunelab.measure.sparsity import sparsity_report
from prunelab.models.cifar_resnet import resnet8
from prunelab.models.densenet import densenet40
from prunelab.models.keras_cnn import KerasCNN
from prunelab.models.mobilenet_v2 import MobileNetV2
from prunelab.models.resnet import resnet18
from prunelab.models.vgg import vgg11


def small() -> nn.Sequential:
    """Convolution 2 -> 4 in two groups over 6x6 (no padding): 4x4 positions; then 64 -> 3."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def test_macs_and_bops_by_hand() -> None:
    net = small()
    assert costs_by_weight(net, torch.zeros(5, 2, 6, 6)) == {"0.weight": 16 * 36, "3.weight": 192}
    cost = network_cost(net, torch.zeros(5, 2, 6, 6))
    assert cost.params == 4 * 9 + 4 + 64 * 3 + 3
    assert cost.macs == 16 * 36 + 192
    assert cost.bops == cost.macs * 32 * 32


def test_zero_weights_are_credited_where_they_are_applied() -> None:
    net = small()
    net[0].weight.data[0] = 0  # 9 weights, 16 times each
    net[3].weight.data[:, :10] = 0  # 30 weights, once each
    cost = network_cost(net, torch.zeros(1, 2, 6, 6))
    assert cost.effective_macs == 16 * (36 - 9) + 192 - 30
    assert cost.nonzero == 235 - 9 - 30


IMAGE = (3, 32, 32)
NETS = {
    "resnet8": (resnet8, IMAGE),
    "resnet18": (resnet18, IMAGE),
    "vgg11": (vgg11, IMAGE),
    "densenet40": (densenet40, IMAGE),
    "mobilenet_v2": (MobileNetV2, IMAGE),
    "keras_cnn": (KerasCNN, IMAGE),
    "grouped": (lambda: nn.Conv2d(6, 9, 3, groups=3, padding=1), (6, 7, 8)),
    "dilated": (lambda: nn.Conv2d(4, 5, 3, dilation=2, stride=2), (4, 11, 13)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1, groups=2), (4, 5, 7)),
    "transposed 1d, 3d": (
        lambda: nn.Sequential(nn.ConvTranspose1d(4, 6, 5), nn.Unflatten(1, (2, 3, 1)), nn.ConvTranspose3d(2, 3, 1)),
        (4, 9),
    ),
    "conv 1d, 3d": (
        lambda: nn.Sequential(nn.Conv1d(4, 6, 5), nn.Unflatten(1, (2, 3, 1)), nn.Conv3d(2, 3, 1)),
        (4, 9),
    ),
    "sequences": (lambda: nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 3, bias=False)), (7, 5)),
}


@pytest.mark.parametrize("name", NETS)
def test_dense_macs_equal_torchs_own_count(name: str) -> None:
    make, shape = NETS[name]
    net, x = make(), torch.zeros(2, *shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(x)
    assert network_cost(net, x).macs * 2 * 2 == counter.get_total_flops() > 0  # of two inputs


def test_a_transposed_convolution_by_hand() -> None:
    net = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)  # each of 5x5 inputs meets 4 x 3 x 9 = 108 weights
    net.weight.data[0] = 0  # 27 weights
    cost = network_cost(net, torch.zeros(3, 4, 5, 5))
    assert costs_by_weight(net, torch.zeros(3, 4, 5, 5)) == {"weight": 25 * 108}
    assert (cost.macs, cost.effective_macs) == (25 * 108, 25 * 81)


def test_each_call_has_the_bits_of_its_weight_and_input() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3)).bfloat16()
    net[1] = net[0]
    first, second = uses(net, torch.zeros(4, 2, dtype=torch.bfloat16))
    assert first == second  # one layer, called twice
    assert (first.layer, first.weight, first.kind) == ("0", "0.weight", "Linear")
    assert (first.positions, first.weights, first.macs, first.bits) == (4, 4, 16, 256)
    assert costs_by_weight(net, torch.zeros(4, 2)) == {"0.weight": 2 * 4}
    assert costs_by_weight(net, torch.zeros(4, 2), "bops") == {"0.weight": 2 * 4 * 256}


def test_several_inputs_and_a_computed_weight_are_counted() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(4, 2)
            prune.custom_from_mask(self.b, "weight", torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]]))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.a(input=x) + self.b(y)

    a, b = uses(Sum(), (torch.zeros(5, 3), torch.zeros(5, 4)))
    assert (a.weight, a.macs) == ("a.weight", 5 * 6)
    assert (b.weight, b.macs, b.effective_macs) == ("b.weight", 5 * 8, 5)


class Between(nn.Module):
    """nn.MultiheadAttention of a batch of 2: 5 queries on 7 keys."""

    def __init__(self, by_name: bool = False, **kwargs: Any) -> None:
        super().__init__()
        self.by_name, self.attn = by_name, nn.MultiheadAttention(8, 2, **kwargs)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (self.attn(value=v, query=q, key=k) if self.by_name else self.attn(q, k, value=v))[0]


ATTENTION: dict[str, dict[str, Any]] = {
    "batch first": {"batch_first": True},
    "sequence first": {"by_name": True},
    "bias_k": {"add_bias_kv": True},
    "kdim, vdim": {"kdim": 6, "vdim": 4},
}


@pytest.mark.parametrize("kwargs", ATTENTION.values(), ids=ATTENTION)
def test_the_projections_of_torchs_attention_by_hand_and_by_its_own_count(kwargs: dict[str, Any]) -> None:
    net = Between(**kwargs)
    kdim, vdim = kwargs.get("kdim", 8), kwargs.get("vdim", 8)
    q, k, v = torch.zeros(5, 2, 8), torch.zeros(7, 2, kdim), torch.zeros(7, 2, vdim)
    x = tuple(t.transpose(0, 1) for t in (q, k, v)) if kwargs.get("batch_first") else (q, k, v)
    calls = uses(net, x)
    assert [use.macs for use in calls] == [10 * 64, 14 * 8 * kdim, 14 * 8 * vdim, 10 * 64]
    assert {use.weight.removeprefix("attn.") for use in calls} == (
        {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"}
        if "kdim" in kwargs
        else {"in_proj_weight", "out_proj.weight"}
    )
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        net.eval()(*x)
    products = 2 * 2 * 5 * (8 if kwargs.get("add_bias_kv") else 7) * 8  # scores and values, of two sequences
    assert sum(use.macs for use in calls) + products == counter.get_total_flops() // 2


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, x, x)[0]


class Optional(nn.MultiheadAttention):
    def forward(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return super().forward(query, query, query)[0]


class ByLayers(nn.MultiheadAttention):
    """All three are of one projection, and the output is that of the layer."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # type: ignore[override]
        return self.out_proj(F.linear(query + key + value, self.in_proj_weight).unflatten(-1, (3, -1)).sum(-2))


class ValuesOnly(nn.Module):
    """Calls parts of its attention, never the attention."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention.out_proj(F.linear(x, self.attention.in_proj_weight[-16:]))


def test_attention_that_is_called_otherwise_counts_its_layers_once() -> None:
    x = torch.zeros(5, 16)
    assert uses(Optional(16, 2), (x,)) == []
    assert uses(SelfAttention(16, 2), (x,)) == []  # as before torch's was counted; measure/uncounted.py names it
    (use,) = uses(ValuesOnly(), (x,))
    assert (use.layer, use.macs) == ("attention.out_proj", 5 * 16 * 16)
    assert [(use.weight, use.macs) for use in uses(ByLayers(16, 2, bias=False), (x, x, x))] == [
        *[("in_proj_weight", 5 * 16 * 16)] * 3,
        ("out_proj.weight", 5 * 16 * 16),
    ]


class BuiltIn(nn.Module):
    forward = staticmethod(torch.relu)


def test_layers_whose_forward_has_no_signature_are_no_attention() -> None:
    net = nn.Sequential(nn.Linear(16, 4), BuiltIn())
    assert [use.macs for use in uses(net, (torch.zeros(5, 16),))] == [5 * 16 * 4]


def test_masked_projections_are_credited_where_they_are_applied() -> None:
    net = Between()
    with torch.no_grad():
        net.attn.in_proj_weight[:3] = 0  # of 8 rows for queries
        net.attn.in_proj_weight[8:10] = 0  # of 8 for keys
        net.attn.out_proj.weight[:, :4] = 0
    calls = uses(net, (torch.zeros(5, 2, 8), torch.zeros(7, 2, 8), torch.zeros(7, 2, 8)))
    assert [use.effective_macs for use in calls] == [10 * 5 * 8, 14 * 6 * 8, 14 * 64, 10 * 32]
    prune.custom_from_mask(net.attn, "in_proj_weight", torch.arange(24)[:, None].expand(-1, 8) >= 24 - 8)
    net(*(torch.zeros(n, 2, 8) for n in (5, 7, 7)))
    computed = uses(net, (torch.zeros(5, 2, 8), torch.zeros(7, 2, 8), torch.zeros(7, 2, 8)))
    assert [use.effective_macs for use in computed] == [0, 0, 14 * 64, 10 * 32]
    assert {use.weight for use in computed} == {"attn.in_proj_weight", "attn.out_proj.weight"}


def test_counting_preserves_state() -> None:
    net = resnet8().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    uses(net, torch.randn(2, 3, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(m.training for m in net.modules())
    assert not any(m._forward_hooks for m in net.modules())


def test_sparsity_counts_zeros_and_units_layer_by_layer() -> None:
    net = small()
    net[0].weight.data[0] = 0
    report = sparsity_report(net, {"0.weight": (1, 4)})
    assert report["layers"]["0.weight"] == {"units": 4, "removed": 1, "weights": 36, "zeros": 9}
    assert report["layers"]["3.weight"] == {"units": 0, "removed": 0, "weights": 192, "zeros": 0}
    assert report["attained"] == 0.25
    assert report["zero_weights"] == 9 / 228


def test_frozen_layers_count_and_weights_of_other_modules_are_named() -> None:
    net = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2), nn.Embedding(3, 2))
    net[0].requires_grad_(False)
    with torch.no_grad():
        net[1].weight[0] = 0
    report = sparsity_report(net, {"1.weight": (2, 4)})
    assert report["attained"] == 0.5
    assert report["zero_weights"] == 2 / 12
    assert report["layers"]["0.weight"] == {"units": 0, "removed": 0, "weights": 8, "zeros": 0}
    assert report["unprunable"] == {"2.weight": 6}


def test_a_layer_with_a_single_unit_left_is_reported_as_collapsed() -> None:
    net = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Linear(1, 4, bias=False), nn.Linear(4, 2, bias=False))
    report = sparsity_report(net, {"0.weight": (3, 4), "1.weight": (2, 4), "2.weight": (0, 8)})
    assert report["collapsed"] == ["0.weight"]
