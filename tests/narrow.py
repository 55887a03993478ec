"""Networks of few channels, which train in milliseconds a step: `model=narrow`."""

from torch import Tensor, nn

from prunelab.models.cifar_resnet import PadShortcut
from prunelab.models.resnet import ResNet


def resnet8(num_classes: int = 10) -> ResNet:
    return ResNet((4, 8, 16), 1, PadShortcut, num_classes)


def resnet8_with_dropout(num_classes: int = 10) -> ResNet:
    """Has every kind of unit: filters, blocks and neurons; its random streams count in training."""
    net = resnet8()
    net.fc = nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, num_classes))
    return net


class Viewing(nn.Module):
    """Flattens by `.view`, which images in channels_last do not allow."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, stride=4), nn.Linear(4 * 8 * 8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().view(len(x), -1))
