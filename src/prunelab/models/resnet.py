"""Residual networks for 32x32 images: He et al. 2015, "Deep residual learning" (arXiv:1512.03385)."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from prunelab.models.initial import he_normal_

Shortcut = Callable[[int, int, int], nn.Module]  # (in_channels, out_channels, stride) -> the skip path


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Option B of section 3.3: a strided 1x1 convolution and a batch norm."""
    conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a skip path: (n, in, h, w) -> (n, out, h / stride, w / stride); fig. 2."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Sequential):
    """(n, 3, h, w) -> (n, num_classes); `blocks` blocks per stage; each stage but the first halves h.

    The stem is a 3x3 convolution of stride 1: that for ImageNet would reduce a 32x32 image to 8x8.
    Parameters are named as in torchvision, except `shortcut.conv`, `.bn` for its `downsample.0`, `.1`.
    """

    def __init__(self, widths: Sequence[int], blocks: int, shortcut: Shortcut, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        in_channels = widths[0]
        for stage, width in enumerate(widths, start=1):
            first = _entrance(in_channels, width, 1 if stage == 1 else 2, shortcut)
            rest = [BasicBlock(width, width, 1, nn.Identity()) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(first, *rest))
            in_channels = width
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(in_channels, num_classes)
        he_normal_(self)


def resnet18(num_classes: int = 10) -> ResNet:
    """Table 1, 18 layers, with the stem for 32x32 images."""
    return ResNet((64, 128, 256, 512), blocks=2, shortcut=projection, num_classes=num_classes)


def _entrance(in_channels: int, out_channels: int, stride: int, shortcut: Shortcut) -> BasicBlock:
    """The first block of a stage: only it may change the shape, and only then is there a shortcut layer."""
    same_shape = stride == 1 and in_channels == out_channels
    skip = nn.Identity() if same_shape else shortcut(in_channels, out_channels, stride)
    return BasicBlock(in_channels, out_channels, stride, skip)
