"""VGG for 32x32 images: Simonyan and Zisserman 2014 (arXiv:1409.1556), with batch norm."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from prunelab.models.initial import he_normal_

WIDTHS = (64, 128, 256, 512, 512)  # of the five stages, each ending in a 2x2 max-pool


class VGG(nn.Module):
    """(n, 3, 32, 32) -> (n, num_classes); stage i has `depths[i]` 3x3 convolutions of `width` times WIDTHS[i] filters.

    Five poolings reduce 32x32 to 1x1, so one Linear replaces the paper's 4096-4096 head; biases are kept.
    Layers carry their usual names: `features.conv3_2` is the second convolution of stage 3.
    """

    def __init__(self, depths: Sequence[int], num_classes: int, width: float = 1.0) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        in_channels = 3
        for stage, (depth, full) in enumerate(zip(depths, WIDTHS, strict=True), start=1):
            channels = max(1, round(width * full))
            for step in range(1, depth + 1):
                layers[f"conv{stage}_{step}"] = nn.Conv2d(in_channels, channels, 3, padding=1)
                layers[f"bn{stage}_{step}"] = nn.BatchNorm2d(channels)
                layers[f"relu{stage}_{step}"] = nn.ReLU()
                in_channels = channels
            layers[f"pool{stage}"] = nn.MaxPool2d(2)
        self.features = nn.Sequential(layers)
        self.fc = nn.Linear(in_channels, num_classes)
        he_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).flatten(1))


def vgg11(num_classes: int = 10, width: float = 1.0) -> VGG:
    """Column A of table 1."""
    return VGG((1, 1, 2, 2, 2), num_classes, width)


def vgg16(num_classes: int = 10, width: float = 1.0) -> VGG:
    """Column D of table 1."""
    return VGG((2, 2, 3, 3, 3), num_classes, width)


def vgg19(num_classes: int = 10, width: float = 1.0) -> VGG:
    """Column E of table 1."""
    return VGG((2, 2, 4, 4, 4), num_classes, width)
