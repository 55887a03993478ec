"""Law 8 on common networks: with half of the channels removed they compute what they did with them masked."""

import logging
from collections.abc import Callable

import pytest
import torch
import torchvision.models as tv
from small_nets import dense, mobile, option_a, option_b
from torch import nn

from prunelab.channels.equivalence.certificate import Certificate, EquivalenceCheck
from prunelab.channels.surgery import shrink
from prunelab.channels.units import Channels
from prunelab.core.allocation import Uniform
from prunelab.core.network.prunable import prunable_weights
from prunelab.models import cifar_resnet, densenet, keras_cnn, mobilenet_v2, resnet, vgg

# (network, image size, approximate share of parameters that half of the channels leave)
ZOO: dict[str, tuple[Callable[[], nn.Module], int, float]] = {
    "keras_cnn": (keras_cnn.KerasCNN, 32, 0.26),
    "resnet18": (resnet.resnet18, 32, 0.25),
    "resnet20, option A": (cifar_resnet.resnet20, 32, 0.25),
    "resnet20, option B": (lambda: cifar_resnet.resnet20(shortcut="B"), 32, 0.25),
    "resnet56, option A": (cifar_resnet.resnet56, 32, 0.25),
    "resnet56, option B": (lambda: cifar_resnet.resnet56(shortcut="B"), 32, 0.25),
    "vgg11": (vgg.vgg11, 32, 0.25),
    "vgg16": (vgg.vgg16, 32, 0.25),
    "densenet40": (densenet.densenet40, 32, 0.26),
    "densenet_bc100": (densenet.densenet_bc100, 32, 0.26),
    "mobilenet_v2": (mobilenet_v2.MobileNetV2, 32, 0.26),
    "option A": (option_a, 32, 0.25),
    "option B": (option_b, 32, 0.25),
    "dense": (dense, 32, 0.26),
    "mobile": (mobile, 32, 0.3),
    "torchvision resnet50": (tv.resnet50, 64, 0.27),
    "torchvision resnext50": (tv.resnext50_32x4d, 64, 0.27),
    "torchvision densenet121": (tv.densenet121, 64, 0.3),
    "torchvision mobilenet_v3_small": (tv.mobilenet_v3_small, 64, 0.36),
    "torchvision efficientnet_b0": (tv.efficientnet_b0, 64, 0.32),
    "torchvision googlenet": (lambda: tv.googlenet(init_weights=False), 96, 0.31),
    "torchvision shufflenet_v2": (tv.shufflenet_v2_x1_0, 64, 0.42),
}
FAST = {"keras_cnn", "option A", "option B", "dense", "mobile"}


def halved(name: str, seed: int) -> tuple[Channels, Certificate, float]:
    """The units, the certificate, and the share of the parameters that is left."""
    build, size, _ = ZOO[name]
    torch.manual_seed(seed)
    net, x = build(), torch.randn(2, 3, size, size)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # freshly initialized norms would hide errors
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    units = Channels().bind(net, prunable_weights(net), x)
    keep = Uniform()({name: torch.rand(len(numbers)) for name, numbers in units.numbers.items()}, 0.5)
    for parameter, mask in units.expand(keep).items():
        net.get_parameter(parameter).data.mul_(mask)
    before, witness = sum(p.numel() for p in net.parameters()), EquivalenceCheck(net, x)
    shrink(net, units.plan(keep))
    return units, witness.certify(net), sum(p.numel() for p in net.parameters()) / before


def check(name: str, seed: int) -> Channels:
    units, certificate, left = halved(name, seed)
    assert max(certificate.eval_float64, certificate.train_float64) < 1e-11
    assert certificate.eval_float32 < 1e-5
    assert left == pytest.approx(ZOO[name][2], abs=0.03)
    return units


@pytest.mark.parametrize("name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ZOO])
def test_half_of_the_channels_can_be_removed_and_in_prunelabs_networks_only_the_logits_stay(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    units = check(name, 0)
    if name.startswith("torchvision"):
        return
    assert units.graph is not None
    assert set(units.graph.stays.values()) == {"the output of the network"}
    made = {weight for weight, axis in units.graph.places if axis == 0}
    assert prunable_weights(ZOO[name][0]()).keys() - made == units.graph.stays.keys()
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ZOO)
def test_any_half_of_the_channels_can_be_removed(name: str) -> None:
    for seed in range(1, 10):
        check(name, seed)
