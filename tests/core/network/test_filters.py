"""Filters against the weights that a convolution multiplies for one output channel, found by its own output."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from prunelab.core.allocation import Uniform
from prunelab.core.granularity import NM
from prunelab.core.network.filters import as_weight, by_filter, transposed_groups
from prunelab.core.network.prunable import layer_weights
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.criteria.norm import Norm

LAYERS = {
    "linear": nn.Linear(6, 4),
    "convolution": nn.Conv2d(4, 6, 3, groups=2),
    "transposed": nn.ConvTranspose2d(4, 6, 3),
    "transposed, in groups": nn.ConvTranspose1d(4, 6, 3, groups=2),
}


def weights_of(layer: nn.Module, channel: int) -> Tensor:
    """Where the weights lie that one output channel is made of: those that its sum has a gradient for."""
    x = torch.ones(1, 6) if isinstance(layer, nn.Linear) else torch.ones(1, 4, *[5] * (layer.weight.dim() - 2))
    return torch.autograd.grad(layer(x).select(1, channel).sum(), layer.weight)[0] != 0


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_each_filter_is_what_makes_its_channel(layer: nn.Module) -> None:
    transposed = transposed_groups(layer).get("weight")
    mark = torch.zeros_like(layer.weight, dtype=torch.bool)
    groups, filters, *_ = by_filter(mark, transposed).shape
    for channel in range(groups * filters):
        mark.zero_()
        by_filter(mark, transposed)[divmod(channel, filters)] = True  # a view: writes to the weight
        assert torch.equal(mark, weights_of(layer, channel))


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_weight_comes_back_from_its_filters(layer: nn.Module) -> None:
    transposed = transposed_groups(layer).get("weight")
    assert torch.equal(as_weight(by_filter(layer.weight, transposed), transposed), layer.weight)


def test_a_weight_that_an_ordinary_convolution_has_too_is_seen_as_that() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 3, 3), nn.ConvTranspose2d(3, 4, 3))
    net[1].weight = net[0].weight
    assert transposed_groups(net) == {"2.weight": 1}


def test_looking_for_weights_computes_none() -> None:
    """A spectral norm takes a step of its power iteration whenever its weight is read."""
    net = nn.Sequential(spectral_norm(nn.ConvTranspose2d(4, 3, 3)), spectral_norm(nn.Linear(4, 3))).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert transposed_groups(net) == layer_weights(net) == {}
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_groups_of_n_in_m_lie_along_the_inputs_of_a_transposed_convolution() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(8, 6, 3, groups=2))
    pruner = Pruner(Norm(), NM(m=4), Uniform(), Rounds(rate=0.5, start=0.0))
    pruner.attach(net)
    pruner.update(Progress(0, 10, 1))
    mask, weight = pruner.masks["0.weight"], net[0].weight.detach().abs()
    for half in (slice(0, 4), slice(4, 8)):  # the inputs of a group
        assert (mask[half].sum(0) == 2).all()
        assert (
            weight[half].masked_fill(~mask[half], 9).amin(0) > weight[half].masked_fill(mask[half], 0).amax(0)
        ).all()


def test_inputs_of_a_transposed_convolution_that_groups_do_not_divide_are_counted() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(6, 8, 3, groups=2))
    with pytest.raises(ValueError, match=r"m=4 do not divide the inputs of 0.weight \(3 inputs\)"):
        Pruner(Norm(), NM(m=4), Uniform(), Rounds(rate=0.5, start=0.0)).attach(net)
