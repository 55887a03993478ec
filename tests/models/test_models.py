"""Networks match their papers: published counts, torchvision's logits, shapes, gradients."""

import math
from pathlib import Path

import pytest
import torch
import torchvision
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from prunelab.models.cifar_resnet import PadShortcut, resnet8, resnet20
from prunelab.models.densenet import densenet_bc100
from prunelab.models.keras_cnn import KerasCNN
from prunelab.models.lottery_conv import conv2, conv6
from prunelab.models.mobilenet_v2 import MobileNetV2
from prunelab.models.resnet import resnet18
from prunelab.models.vgg import vgg11

MENU = Path(__file__).parents[2] / "conf" / "model"

PARAMETERS = {
    "resnet8": 75_290,  # 16 * 27 + 32 + 2 * 2304 + 64 + (13824 + 128) + (55296 + 256) + 650, by hand
    "resnet20": 269_722,  # He et al. 2015, table 6: 0.27M
    "resnet32": 464_154,  # same: 0.46M
    "resnet56": 853_018,  # same: 0.85M
    "resnet110": 1_727_962,  # same: 1.7M
    "resnet18": 11_173_962,  # torchvision's 11,689,512 - (9408 - 1728) stem - 990 * 513 head
    "vgg11": 9_231_114,  # torchvision's vgg11_bn: 9,225,984 in `features`, and 5130
    "vgg16": 14_728_266,  # torchvision's vgg16_bn: 14,723,136 in `features`, and 5130
    "vgg19": 20_040_522,  # torchvision's vgg19_bn: 20,035,392 in `features`, and 5130
    "densenet40": 1_019_722,  # Huang et al. 2017, table 2: 1.0M
    "densenet_bc100": 769_162,  # same: 0.8M
    "densenet16": 64_026,  # by hand: 432 + 8288 + 2400 + 17760 + 6560 + 27232 + 1354
    "keras_cnn": 1_250_858,  # model.summary() of the Keras example
    "lenet300": 953_010,  # 3072 * 300 + 300 + 300 * 100 + 100 + 1010
    "conv2": 4_301_642,  # Frankle and Carbin 2019, figure 2: 4.3M
    "conv4": 2_425_930,  # same: 2.4M
    "conv6": 2_262_602,  # 1,145,408 in convolutions (same: 1.1M) + 1,048,832 + 65,792 + 2570
    "mobilenet_v2": 2_236_682,  # torchvision's 3,504,872 - 990 * 1281 head
    "torchvision": 11_173_962,  # its resnet18 with the small stem, which is ours
}

# Than another of their family, which runs in their place
DEEPER = {
    "torchvision",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet56",
    "resnet110",
    "vgg16",
    "vgg19",
    "conv4",
    "conv6",
}
RUN = [pytest.param(name, marks=pytest.mark.slow) if name in DEEPER else name for name in PARAMETERS]


def load(name: str, num_classes: int = 10) -> nn.Module:
    menu = OmegaConf.load(MENU / f"{name}.yaml")
    menu.pop("defaults", None)  # some networks choose their optimizer
    return instantiate(menu, num_classes=num_classes)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def images(n: int = 2, side: int = 32) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Copies the state of `source` to `target`; tensors are in the same order, under other names."""
    values = source.state_dict().values()
    target.load_state_dict(dict(zip(target.state_dict(), values, strict=True)))


def assert_same_logits(net: nn.Module, oracle: nn.Module) -> None:
    for layer in oracle.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    oracle(images(8))  # in training mode: fills the batch norms' buffers
    copy_in_order(oracle, net)
    loud = 10 * images()  # else no activation passes the 6 of a ReLU6
    torch.testing.assert_close(net.eval()(loud), oracle.eval()(loud))


def test_every_network_in_conf_has_a_published_count() -> None:
    assert {file.stem for file in MENU.glob("*.yaml")} == {*PARAMETERS, "timm"}  # tests/models/test_timm.py


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_is_the_published_one(name: str) -> None:
    with torch.device("meta"):
        assert count(load(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", RUN)
def test_one_backward_pass_reaches_every_parameter(name: str) -> None:
    net = load(name)
    logits = net(images())
    F.cross_entropy(logits, torch.tensor([3, 7])).backward()
    assert logits.shape == (2, 10)
    for key, p in net.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
        # a convolution's bias before a batch norm has no effect: its gradient is rounding noise
        assert key.endswith("bias") or p.grad.any(), key


@pytest.mark.parametrize("name", RUN)
def test_channels_last_and_other_class_counts_change_nothing_else(name: str) -> None:
    net = load(name, num_classes=7).eval().double()  # in float32 the rounding of fifty layers would hide an error
    x = images().double()
    with torch.no_grad():
        expected = net(x)
        logits = net.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert logits.shape == (2, 7)
    torch.testing.assert_close(logits, expected)


def test_option_a_shortcut_keeps_every_second_pixel_and_adds_zero_channels() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    out = PadShortcut(1, 3, stride=2)(x)
    assert out.tolist() == [[[[0.0, 2.0], [8.0, 10.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]]


def test_resnet20_passes_its_input_on_where_the_residual_is_zero() -> None:
    net = resnet20().eval()
    block = net.layer2[0]
    nn.init.zeros_(block.bn2.weight)
    x = images().abs().repeat(1, 6, 1, 1)[:, :16]  # (2, 16, 32, 32), not negative: the last ReLU keeps it
    out = block(x)
    assert out.shape == (2, 32, 16, 16)
    assert torch.equal(out[:, :16], x[:, :, ::2, ::2])
    assert not out[:, 16:].any()


def test_option_b_adds_one_projection_for_each_change_of_width() -> None:
    extra = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
    assert count(resnet20(shortcut="B")) == count(resnet20()) + extra


def test_unknown_shortcut_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="shortcut='C'"):
        resnet8(shortcut="C")  # type: ignore[arg-type]


def test_resnet18_is_torchvisions_behind_a_small_stem() -> None:
    oracle = torchvision.models.resnet18(num_classes=10)
    oracle.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    oracle.maxpool = nn.Identity()
    net = resnet18()
    ours = {key.replace("shortcut.conv", "downsample.0") for key, _ in net.named_parameters()}
    assert {key.replace("shortcut.bn", "downsample.1") for key in ours} == {key for key, _ in oracle.named_parameters()}
    assert_same_logits(net, oracle)


def test_a_vgg_is_torchvisions_with_one_linear() -> None:
    widths = [16, "M", 32, "M", 64, 64, "M", 128, 128, "M", 128, 128, "M"]  # a quarter of column A
    features = torchvision.models.vgg.make_layers(widths, batch_norm=True)
    assert_same_logits(vgg11(width=0.25), nn.Sequential(features, nn.Flatten(), nn.Linear(128, 10)))


def test_densenet_bc100_is_torchvisions_behind_a_small_stem() -> None:
    oracle = torchvision.models.DenseNet(12, (16, 16, 16), num_init_features=24, num_classes=10)
    oracle.features.conv0 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
    for name in ("norm0", "relu0", "pool0"):
        setattr(oracle.features, name, nn.Identity())
    assert_same_logits(densenet_bc100(), oracle)


def test_mobilenet_v2_is_torchvisions_with_two_strides_fewer() -> None:
    oracle = torchvision.models.mobilenet_v2(num_classes=10)
    oracle.features[0][0].stride = (1, 1)
    oracle.features[2].conv[1][0].stride = (1, 1)
    assert_same_logits(MobileNetV2(), oracle)


def test_mobilenet_v2_has_torchvisions_count_at_1000_classes() -> None:
    with torch.device("meta"):
        assert count(MobileNetV2(num_classes=1000)) == count(torchvision.models.mobilenet_v2()) == 3_504_872


def test_conv6_has_the_papers_weights_in_convolutions() -> None:
    # figure 2: 1.1M
    assert count(conv6().features) == 1_145_408


def test_keras_cnn_drops_at_the_rates_it_is_given() -> None:
    net = KerasCNN(conv_dropout=0.1, dense_dropout=0.0)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.1, 0.1, 0.0]
    assert [m.p for m in KerasCNN().modules() if isinstance(m, nn.Dropout)] == [0.25, 0.25, 0.5]


def test_initial_weights_have_the_spread_of_their_rule() -> None:
    bound = math.sqrt(6 / (2304 + 512))
    assert 0.999 * bound < KerasCNN().fc1.weight.abs().max() <= bound
    glorot = conv2().fc1.weight  # (256, 16384)
    assert glorot.std().item() == pytest.approx(math.sqrt(2 / (16384 + 256)), rel=0.01)
    assert glorot.abs().max() > 4 * glorot.std()  # Gaussian: a uniform one ends at 1.7
    he = resnet18().layer4[0].conv1.weight  # (512, 256, 3, 3)
    assert he.std().item() == pytest.approx(math.sqrt(2 / (9 * 512)), rel=0.01)


@pytest.mark.parametrize("name", ["keras_cnn", "conv2", "vgg11", "resnet8"])
def test_biases_start_at_zero(name: str) -> None:
    assert not any(p.any() for key, p in load(name).named_parameters() if key.endswith("bias"))
