"""Thin residual networks for CIFAR-10: He et al. 2015, section 4.2 (arXiv:1512.03385)."""

from typing import Literal

from torch import Tensor, nn

from prunelab.models.resnet import ResNet, Shortcut, projection


class PadShortcut(nn.Module):
    """Option A of section 3.3, without parameters: (n, in, h, w) -> (n, out, h / stride, w / stride).

    Keeps every stride-th pixel and appends zero channels, as the authors' Torch code appends them; some ports
    split the zeros between both ends.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        # A module, so that surgery can change its padding when channels are removed.
        # From the last axis: (w, w, h, h, channels before, channels after)
        self.pad = nn.ConstantPad3d((0, 0, 0, 0, 0, out_channels - in_channels), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.pad(x[:, :, :: self.stride, :: self.stride])


def resnet8(num_classes: int = 10, shortcut: Literal["A", "B"] = "A") -> ResNet:
    """n = 1, for quick studies: smaller than any in the paper."""
    return _resnet(1, num_classes, shortcut)


def resnet20(num_classes: int = 10, shortcut: Literal["A", "B"] = "A") -> ResNet:
    """n = 3; 0.27M parameters in table 6."""
    return _resnet(3, num_classes, shortcut)


def resnet32(num_classes: int = 10, shortcut: Literal["A", "B"] = "A") -> ResNet:
    """n = 5; 0.46M parameters in table 6."""
    return _resnet(5, num_classes, shortcut)


def resnet56(num_classes: int = 10, shortcut: Literal["A", "B"] = "A") -> ResNet:
    """n = 9; 0.85M parameters in table 6."""
    return _resnet(9, num_classes, shortcut)


def resnet110(num_classes: int = 10, shortcut: Literal["A", "B"] = "A") -> ResNet:
    """n = 18; 1.7M parameters in table 6."""
    return _resnet(18, num_classes, shortcut)


def _resnet(n: int, num_classes: int, shortcut: Literal["A", "B"]) -> ResNet:
    """The 6n + 2 layers of section 4.2."""
    options: dict[str, Shortcut] = {"A": PadShortcut, "B": projection}
    if shortcut not in options:
        raise ValueError(f"shortcut={shortcut!r}: expected 'A' (slice and pad) or 'B' (1x1 convolution)")
    return ResNet((16, 32, 64), n, options[shortcut], num_classes)
