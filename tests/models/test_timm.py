"""Networks of timm by name: sizes, classes, small files, and names that do not exist."""

import sys
from pathlib import Path

import pytest
import torch

import prunelab
from prunelab.channels.plan import Plan
from prunelab.models.timm import timm


@pytest.fixture
def library() -> None:
    pytest.importorskip("timm", reason="an extra of prunelab")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", ["resnet18", "resnet18d", "test_vit", "mobilenetv3_small_050"])
def test_class_count_and_size_reach_every_kind_of_network(name: str) -> None:
    with torch.device("meta"):
        assert timm(7, name)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.usefixtures("library")
def test_patches_are_as_small_as_asked() -> None:
    with torch.device("meta"):
        assert timm(name="test_vit", patch=4).patch_embed.num_patches == 64


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("name", "first"), [("resnet18", "conv1"), ("resnet18d", "conv1.0")])
def test_a_resnet_gets_the_small_stem(name: str, first: str) -> None:
    with torch.device("meta"):
        net = timm(name=name)
    convolution = net.get_submodule(first)
    assert (convolution.kernel_size, convolution.stride, convolution.padding) == ((3, 3), (1, 1), (1, 1))
    assert isinstance(net.maxpool, torch.nn.Identity)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", "timm has no network of that name; nearest are resnet18, "),
        ("hf-hub:timm/resnet18", "timm has no network of that name"),  # else it would be looked up
        ("local-dir:/etc", "timm has no network of that name"),
    ],
)
def test_a_name_that_does_not_exist_gets_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm(name=name)


@pytest.mark.usefixtures("library")
def test_a_network_round_trips_through_its_small_file(tmp_path: Path) -> None:
    net = timm(3, "test_vit_relpos").eval()  # with constants that are in no state_dict
    args = {"num_classes": 3, "name": "test_vit_relpos", "stem": "auto", "size": None}
    prunelab.save(tmp_path / "net.safetensors", net, Plan(), "timm.timm", args)
    example = torch.randn(2, 3, 32, 32)
    assert torch.equal(prunelab.load(tmp_path / "net.safetensors")(example), net(example))


def test_without_timm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"^model=timm needs timm: pip install 'prunelab\[timm\]'$"):
        timm()
