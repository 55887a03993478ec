"""The stem for small images, and which networks get it."""

import pytest
import torch
from torch import nn

from prunelab.models.resnet import resnet18
from prunelab.models.torchvision import torchvision


@pytest.mark.parametrize(
    ("name", "stem", "size", "side"),
    [
        ("resnet18", "auto", 32, 32),
        ("resnet18", "auto", None, 32),
        ("resnet18", "auto", 64, 64),
        ("resnet18", "auto", 65, 17),
        ("resnet18", "small", 96, 96),
        ("resnet18", "as_is", 32, 8),
        ("densenet121", "auto", 32, 32),
    ],
)
def test_small_images_keep_their_size_behind_the_stem(name: str, stem: str, size: int | None, side: int) -> None:
    with torch.device("meta"):
        net = torchvision(10, name, stem, size)
        x = torch.zeros(1, 3, size or 32, size or 32)
    net = net.features if name == "densenet121" else net
    for layer in list(net.children())[:4]:
        x = layer(x)
    assert x.shape == (1, 64, side, side)


def test_resnet18_of_torchvision_with_the_small_stem_is_ours() -> None:
    ours = {name.replace("shortcut.conv", "downsample.0"): p.shape for name, p in resnet18().named_parameters()}
    with torch.device("meta"):
        theirs = {name: p.shape for name, p in torchvision().named_parameters()}
    assert {name.replace("shortcut.bn", "downsample.1"): shape for name, shape in ours.items()} == theirs


def test_the_new_convolution_starts_as_the_others_of_the_network() -> None:
    weight = torchvision().conv1.weight  # (64, 3, 3, 3)
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.1)


def test_the_log_says_what_became_of_the_stem(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    torchvision(name="resnet18")
    torchvision(name="squeezenet1_1")
    torchvision(name="squeezenet1_1", size=224)
    with torch.device("meta"):
        torchvision(name="resnet18")
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "resnet18: a 3x3 stem of stride 1 without max-pooling, for images of 32 pixels",
        "squeezenet1_1: its stem stays as it is, it is not a ResNet's; images have 32 pixels",
    ]


@pytest.mark.parametrize(
    ("name", "stem", "message"),
    [
        ("resnet18", "cifar", "model.stem=cifar: expected auto, small or as_is"),
        ("mobilenet_v3_small", "small", "mobilenet_v3_small has no convolution and max-pooling to replace"),
    ],
)
def test_other_stems_are_refused(name: str, stem: str, message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        torchvision(name=name, stem=stem)


def test_the_rest_of_a_network_is_left_alone() -> None:
    with torch.device("meta"):
        small, whole = (dict(torchvision(stem=stem).named_modules()) for stem in ("small", "as_is"))
    changed = {name for name in whole if str(small[name]) != str(whole[name])}
    assert changed == {"", "conv1", "maxpool"}
    assert isinstance(small["maxpool"], nn.Identity)
