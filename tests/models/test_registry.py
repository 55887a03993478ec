"""The registry holds the networks of conf/model, and builds nothing else that a file or a user may name."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from prunelab.models import resnet
from prunelab.models.cifar_resnet import resnet20
from prunelab.models.registry import _is_net, build, name_of, nets

MENU = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))


def test_registered_networks_are_those_in_conf() -> None:
    targets = {OmegaConf.load(file)["_target_"] for file in MENU}
    assert {f"prunelab.models.{name}" for name in nets()} == targets


def test_parts_of_networks_and_other_names_are_not_registered() -> None:
    def seven() -> int:
        return 7

    def unsure():  # type: ignore[no-untyped-def]
        return nn.ReLU()

    def wide(width: int) -> nn.Linear:
        return nn.Linear(width, width)

    assert not any(_is_net(made) for made in (seven, unsure, wide, dict, nn.Linear, nn.ReLU(), torch, "resnet20", 7))
    assert _is_net(nn.ReLU)


def test_a_private_network_is_not_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden() -> nn.Module:
        return nn.ReLU()

    hidden.__module__ = resnet.__name__
    monkeypatch.setattr(resnet, "shown", hidden, raising=False)
    monkeypatch.setattr(resnet, "_hidden", hidden, raising=False)
    assert "resnet.shown" in nets()
    assert "resnet._hidden" not in nets()


@pytest.mark.parametrize("name", nets())
def test_a_target_has_a_name_that_builds_its_network_without_memory(name: str) -> None:
    if name == "timm.timm":
        pytest.importorskip("timm", reason="an extra of prunelab")
    assert name_of(f"prunelab.models.{name}") == name
    before = torch.get_rng_state()
    with torch.device("meta"):
        net = build(name, {"num_classes": 7})
    assert isinstance(net, nn.Module)
    assert torch.equal(torch.get_rng_state(), before)
    tensors = dict([*net.named_parameters(), *net.named_buffers()])
    assert all(t.is_meta for t in tensors.values())
    assert net.state_dict().keys() == tensors.keys()  # else a file of them would not be the whole net


def test_arguments_reach_the_network() -> None:
    built, own = build("cifar_resnet.resnet20", {"num_classes": 3, "shortcut": "B"}), resnet20(3, "B")
    assert str(built) == str(own)
    assert build("keras_cnn.KerasCNN", {"dense_dropout": 0.1}).dropout.p == 0.1


@pytest.mark.parametrize(
    "target", ["torchvision.models.resnet18", "cifar_resnet.resnet20", "prunelab.models.resnet.nn", "os.system", ""]
)
def test_other_targets_have_no_name(target: str) -> None:
    assert name_of(target) is None


NOT_NETS = [
    "os.system",
    "..",
    ".",
    "",
    "resnet",
    "resnet20",
    "_private",
    "prunelab.models.cifar_resnet.resnet20",  # a target, not a name
    "resnet.nn",
    "resnet.nn.Module",
    "resnet.Tensor",
    "resnet.OrderedDict",
    "resnet.ResNet",  # must be told its widths
    "resnet.BasicBlock",
    "resnet.projection",
    "resnet._entrance",
    "cifar_resnet.ResNet",  # defined elsewhere
    "cifar_resnet._resnet",
    "cifar_resnet.resnet20.__globals__",
    "lottery_conv.LotteryConv",
    "initial.he_normal_",
    "named.build",
    "named.nets",
    "__init__.nets",
    "../models/resnet.resnet18",
    "resnet.resnet18 ",
]


@pytest.mark.parametrize("name", NOT_NETS)
def test_unregistered_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected one of cifar_resnet.resnet8, .*vgg.vgg19") as error:
        build(name, {})
    assert f"net={name!r}" in str(error.value)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"depth": 3}, r"built with depth=3: .*unexpected.*it takes \(num_classes"),
        ({"num_classes": "ten"}, "num_classes='ten'"),
        ({"num_classes": -1}, "num_classes=-1"),
        ({"num_classes": 10**30}, "num_classes=1000"),
        ({"shortcut": "C"}, "expected 'A'"),
        ({"num_classes": [10]}, r"num_classes=\[10\]: expected a number"),
        ({"num_classes": {"_target_": "os.system"}}, "expected a number"),
        ({"num_classes": torch.tensor(3)}, "expected a number"),
        ({"": 1}, "unexpected"),
    ],
)
def test_wrong_arguments_are_named(args: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error, torch.device("meta"):
        build("cifar_resnet.resnet20", args)
    assert "cifar_resnet.resnet20" in str(error.value)
