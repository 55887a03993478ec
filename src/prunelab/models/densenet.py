"""DenseNet: Huang et al. 2017 (arXiv:1608.06993)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelab.models.initial import he_normal_

Layer = Callable[[int, int], nn.Module]  # (in_channels, growth) -> (n, in, h, w) to (n, in + growth, h, w)


class DenseLayer(nn.Module):
    """BN-ReLU-conv3x3 appended to its own input: (n, in, h, w) -> (n, in + growth, h, w)."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.conv1(F.relu(self.bn1(x)))), dim=1)


class BottleneckLayer(nn.Module):
    """DenseNet-B: a DenseLayer after a 1x1 convolution to 4 * growth channels; the same shapes."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.conv1(F.relu(self.bn1(x)))
        return torch.cat((x, self.conv2(F.relu(self.bn2(narrow)))), dim=1)


class Transition(nn.Module):
    """BN-ReLU-conv1x1 and 2x2 average pooling: (n, in, h, w) -> (n, out, h / 2, w / 2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(F.relu(self.bn(x))))


class DenseNet(nn.Sequential):
    """(n, 3, 32, 32) -> (n, num_classes): three blocks of `depth` layers with transitions between them.

    The stem has `stem` channels; a transition keeps the fraction `compression` of them (theta in section 3).
    No dropout: the paper uses it only without data augmentation.
    """

    def __init__(self, layer: Layer, depth: int, growth: int, stem: int, compression: float, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        channels = stem
        for block in (1, 2, 3):
            if block > 1:
                kept = int(compression * channels)
                self.add_module(f"transition{block - 1}", Transition(channels, kept))
                channels = kept
            grown = [layer(channels + i * growth, growth) for i in range(depth)]
            self.add_module(f"block{block}", nn.Sequential(*grown))
            channels += depth * growth
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(channels, num_classes)
        he_normal_(self)


def densenet40(num_classes: int = 10) -> DenseNet:
    """DenseNet, L = 40, k = 12; 1.0M parameters in table 2."""
    return DenseNet(DenseLayer, 12, growth=12, stem=16, compression=1.0, num_classes=num_classes)


def densenet_bc100(num_classes: int = 10) -> DenseNet:
    """DenseNet-BC, L = 100, k = 12; 0.8M parameters in table 2; the stem has 2k channels."""
    return DenseNet(BottleneckLayer, 16, growth=12, stem=24, compression=0.5, num_classes=num_classes)


def densenet16(num_classes: int = 10) -> DenseNet:
    """L = 16, k = 8, as densenet40 but small enough for a CPU; 0.06M parameters."""
    return DenseNet(DenseLayer, 4, growth=8, stem=16, compression=1.0, num_classes=num_classes)
