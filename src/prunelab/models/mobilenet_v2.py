"""MobileNetV2 for 32x32 images: Sandler et al. 2018 (arXiv:1801.04381), with fewer strides."""

from collections import OrderedDict

from torch import Tensor, nn

from prunelab.models.initial import he_normal_

# (expansion t, channels c, repeats n, stride s) of table 2; there the stage of 24 channels has s = 2
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand (1x1), filter (depthwise 3x3), project (linear 1x1): (n, in, h, w) -> (n, out, h / s, w / s).

    Table 1. The input is added to the output where both have the same shape.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self.expand = nn.Identity() if expansion == 1 else _conv_bn_relu(in_channels, hidden, 1)
        self.depthwise = _conv_bn_relu(hidden, hidden, 3, stride, groups=hidden)
        self.project = _conv_bn(hidden, out_channels, 1)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.depthwise(self.expand(x)))
        return x + out if self.residual else out


class MobileNetV2(nn.Sequential):
    """(n, 3, 32, 32) -> (n, num_classes), width 1; features are 4x4 before pooling.

    The stem also has stride 1. Dropout of 0.2 on the pooled features is that of the authors' code (TF-slim).
    """

    def __init__(self, num_classes: int = 10, dropout: float = 0.2) -> None:
        super().__init__()
        self.stem = _conv_bn_relu(3, 32, 3)
        in_channels = 32
        for stage, (expansion, width, repeats, first_stride) in enumerate(STAGES, start=1):
            blocks = []
            for stride in [first_stride] + [1] * (repeats - 1):
                blocks.append(InvertedResidual(in_channels, width, stride, expansion))
                in_channels = width
            self.add_module(f"stage{stage}", nn.Sequential(*blocks))
        self.head = _conv_bn_relu(in_channels, 1280, 1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1280, num_classes)
        he_normal_(self)


def _conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels)))


def _conv_bn_relu(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layers = _conv_bn(in_channels, out_channels, kernel, stride, groups)
    layers.add_module("relu", nn.ReLU6())
    return layers
