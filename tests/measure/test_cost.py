"""MACs and zeros against values worked by hand."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prunelab.measure.cost import applications, dense_cost, sparse_cost
from prunelab.measure.sparsity import sparsity_report
from prunelab.models.cifar_resnet import resnet8
from prunelab.models.keras_cnn import KerasCNN
from prunelab.models.mobilenet_v2 import MobileNetV2


def small() -> nn.Sequential:
    """Convolution 2 -> 4 in two groups over 6x6 (no padding): 4x4 positions; then 64 -> 3."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def test_macs_and_bops_by_hand() -> None:
    net = small()
    applied = applications(net, torch.zeros(5, 2, 6, 6))
    assert applied == {"0.weight": 16, "3.weight": 1}
    cost = dense_cost(net, applied)
    assert cost.params == 4 * 9 + 4 + 64 * 3 + 3
    assert cost.macs == 16 * 36 + 192
    assert cost.bops == cost.macs * 32 * 32


def test_zero_weights_are_credited_where_they_are_applied() -> None:
    net = small()
    net[0].weight.data[0] = 0  # 9 weights, 16 times each
    net[3].weight.data[:, :10] = 0  # 30 weights, once each
    cost = sparse_cost(net, applications(net, torch.zeros(1, 2, 6, 6)))
    assert cost.macs == 16 * (36 - 9) + 192 - 30
    assert cost.nonzero == 235 - 9 - 30


def test_dense_macs_equal_torchs_own_count() -> None:
    for net in (resnet8(), KerasCNN(), MobileNetV2()):
        x = torch.zeros(1, 3, 32, 32)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net.eval()(x)
        assert dense_cost(net, applications(net, x)).macs * 2 == counter.get_total_flops()


def test_counting_leaves_the_net_alone() -> None:
    net = resnet8().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    applications(net, torch.randn(2, 3, 32, 32))
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


def test_a_layer_with_a_single_unit_left_is_reported_as_collapsed() -> None:
    net = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Linear(1, 4, bias=False), nn.Linear(4, 2, bias=False))
    report = sparsity_report(net, {"0.weight": (3, 4), "1.weight": (2, 4), "2.weight": (0, 8)})
    assert report["collapsed"] == ["0.weight"]
