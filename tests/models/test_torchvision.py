"""Networks of torchvision by name: sizes, classes, small files, and names that do not exist."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision import models

import prunelab
from prunelab.channels.surgery import shrink
from prunelab.channels.units import Channels
from prunelab.core.network.prunable import prunable_weights
from prunelab.models.torchvision import torchvision


@pytest.mark.parametrize("name", ["alexnet", "googlenet", "inception_v3", "regnet_y_400mf", "swin_t", "vit_b_32"])
def test_class_count_and_size_reach_every_kind_of_network(name: str) -> None:
    size = 96
    with torch.device("meta"):
        net = torchvision(7, name, size=size)
        assert net.train()(torch.zeros(2, 3, size, size)).shape == (2, 7)


class LargestOnCPU(TorchDispatchMode):
    values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        on_cpu = [x.numel() for x in tree_leaves(out) if isinstance(x, Tensor) and x.device.type == "cpu"]
        self.values = max(self.values, *on_cpu, 0)
        return out


@pytest.mark.parametrize("name", ["regnet_y_400mf", "regnet_x_400mf", "resnet18"])
def test_a_network_on_the_meta_device_takes_no_memory_whatever_its_size(name: str) -> None:
    """A file names both, and its shapes are compared with those of the network."""
    with torch.device("meta"), LargestOnCPU() as largest:
        net = torchvision(10**9, name)
    assert {x.device.type for x in [*net.parameters(), *net.buffers()]} == {"meta"}
    assert largest.values < 100
    shapes = {key: x.shape for key, x in models.get_model(name).state_dict().items() if not key.startswith("fc.")}
    assert shapes.items() <= {key: x.shape for key, x in torchvision(3, name, "as_is").state_dict().items()}.items()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", "torchvision has no network of that name; nearest are resnet18, "),
        ("vit", "nearest are vit_b_16, vit_b_32, "),
        ("fasterrcnn_resnet50_fpn", "no network of that name"),
        ("", "model.name=: torchvision has no network of that name$"),
    ],
)
def test_a_name_that_does_not_exist_gets_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        torchvision(name=name)


def test_a_size_that_patches_do_not_divide_is_refused() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="vit_b_16 at 40 pixels: .*; set data.size"):
        torchvision(name="vit_b_16", size=40)


def test_a_smaller_network_round_trips_through_its_file(tmp_path: Path) -> None:
    net, example = torchvision(3, "squeezenet1_1").eval(), torch.randn(2, 3, 32, 32)
    channels = Channels().bind(net, prunable_weights(net), example)
    plan = channels.plan({group: torch.arange(len(n)) % 2 == 0 for group, n in channels.numbers.items()})
    shrink(net, plan)
    args = {"num_classes": 3, "name": "squeezenet1_1", "stem": "auto", "size": None}
    prunelab.save(tmp_path / "net.safetensors", net, plan, "torchvision.torchvision", args)
    assert torch.equal(prunelab.load(tmp_path / "net.safetensors")(example), net(example))


def test_weights_of_torchvision_load_into_it() -> None:
    net = torchvision(1000, "resnet18", "as_is", 224)
    net.load_state_dict(models.resnet18().state_dict())
