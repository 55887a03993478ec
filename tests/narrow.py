"""Networks of few channels, which train in milliseconds a step: `model=narrow`."""

from torch import nn

from prunelab.models.cifar_resnet import PadShortcut
from prunelab.models.resnet import ResNet


def resnet8(num_classes: int = 10) -> ResNet:
    return ResNet((4, 8, 16), 1, PadShortcut, num_classes)


def resnet8_with_dropout(num_classes: int = 10) -> ResNet:
    """Has every kind of unit: filters, blocks and neurons; its random streams count in training."""
    net = resnet8()
    net.fc = nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, num_classes))
    return net
