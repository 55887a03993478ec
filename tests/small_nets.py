"""A small network of each family in prunelab.models, for tests that take longer the more layers there are."""

from torch import nn

from prunelab.models.cifar_resnet import PadShortcut
from prunelab.models.densenet import DenseLayer, DenseNet
from prunelab.models.mobilenet_v2 import MobileNetV2
from prunelab.models.resnet import ResNet, projection
from prunelab.models.vgg import VGG, vgg11


def option_a() -> ResNet:
    """ResNet-14, with shortcuts of slices and zeros."""
    return ResNet((16, 32, 64), 2, PadShortcut, 10)


def option_b() -> ResNet:
    """ResNet-14, with projections."""
    return ResNet((16, 32, 64), 2, projection, 10)


def narrow_vgg() -> VGG:
    return vgg11(width=0.25)


def dense() -> DenseNet:
    return DenseNet(DenseLayer, 2, growth=12, stem=16, compression=1.0, num_classes=10)


def mobile() -> MobileNetV2:
    """Without its last four stages."""
    net = MobileNetV2()
    for stage in (4, 5, 6, 7):
        delattr(net, f"stage{stage}")
    net.head.conv, net.head.bn, net.fc = nn.Conv2d(32, 64, 1, bias=False), nn.BatchNorm2d(64), nn.Linear(64, 10)
    return net
