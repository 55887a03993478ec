"""The stem for small images (He et al. 2015, section 4.2), where that for ImageNet would leave a quarter of a side."""

import logging

import torch
from torch import nn

log = logging.getLogger(__name__)
LARGEST = 64  # pixels of a side: what is called small
STEMS = (("conv1", "maxpool"), ("features.conv0", "features.pool0"))  # of ResNets and their kin; of DenseNets


def fit_stem(net: nn.Module, stem: str, size: int, name: str) -> None:
    """Gives `net` a 3x3 convolution of stride 1 and no max-pooling, in place; the log says what was done.

    `stem` is "small", "as_is", or "auto": small for images up to 64 pixels, in a network that has such a stem. Raises
    ValueError for another word, and where "small" finds no stem of this kind.
    """
    if stem not in ("auto", "small", "as_is"):
        raise ValueError(f"model.stem={stem}: expected auto, small or as_is")
    if stem == "as_is" or (stem == "auto" and size > LARGEST):
        return
    for convolution, pool in STEMS:
        if _has_stem(net, convolution, pool):
            _make_small_(net, convolution, pool)
            _say(f"{name}: a 3x3 stem of stride 1 without max-pooling, for images of {size} pixels")
            return
    if stem == "small":
        raise ValueError(
            f"model.stem=small: {name} has no convolution and max-pooling to replace; take model.stem=as_is"
        )
    _say(f"{name}: its stem stays as it is, it is not a ResNet's; images have {size} pixels")


def _say(what: str) -> None:
    if torch.get_default_device().type != "meta":  # there only a file is compared
        log.info(what)


def _has_stem(net: nn.Module, convolution: str, pool: str) -> bool:
    modules = dict(net.named_modules())
    return pool in modules and isinstance(_first(modules.get(convolution)), nn.Conv2d)


def _first(layer: nn.Module | None) -> nn.Module | None:
    """The convolution itself, or the first of a deep stem, which has three."""
    return layer[0] if isinstance(layer, nn.Sequential) and len(layer) else layer


def _make_small_(net: nn.Module, convolution: str, pool: str) -> None:
    first = _first(net.get_submodule(convolution))
    assert isinstance(first, nn.Conv2d)
    if first.kernel_size == (3, 3):
        first.stride = (1, 1)
    else:
        small = nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=first.bias is not None)
        nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
        net.set_submodule(convolution if first is net.get_submodule(convolution) else f"{convolution}.0", small)
    net.set_submodule(pool, nn.Identity())
