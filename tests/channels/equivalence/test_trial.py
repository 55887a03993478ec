"""What surgery is tried on: copies that share nothing with the network, and cuts that are taken back."""

import copy

import pytest
import torch
from narrow import resnet8
from torch import nn

from prunelab.channels.equivalence.trial import copied, mask, random_inputs, undone
from prunelab.channels.surgery import shrink
from prunelab.channels.units import Channels
from prunelab.core.network.prunable import prunable_weights

X = torch.rand(2, 3, 8, 8)


def test_a_cut_is_taken_back_whole_also_after_an_exception() -> None:
    """With groups, paddings and sizes."""
    net = nn.Sequential(resnet8(), nn.Unflatten(1, (10, 1, 1)), nn.Conv2d(10, 8, 1), nn.Conv2d(8, 8, 1, groups=8))
    units = Channels().bind(net, prunable_weights(net), X)
    keep = {name: torch.arange(len(numbers)) % 2 == 0 for name, numbers in units.numbers.items()}
    before, sizes, owned = copy.deepcopy(net.state_dict()), repr(net), [id(p) for p in net.parameters()]
    with pytest.raises(KeyError), undone(net):
        mask(net, units.expand(keep), units.norms)
        shrink(net, units.plan(keep))
        assert repr(net) != sizes
        raise KeyError
    assert repr(net) == sizes
    assert [id(p) for p in net.parameters()] == owned
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_copy_leaves_the_graph_of_a_step_behind() -> None:
    net = nn.Linear(3, 2)
    net.last = net(torch.ones(1, 3)).sum()
    twin = copied(net)
    assert twin is not None
    assert twin.last.grad_fn is None
    assert torch.equal(twin.last, net.last)
    assert twin.weight is not net.weight


def test_random_inputs_are_two_at_least_in_the_form_of_the_example_and_the_same_each_time() -> None:
    images, tokens = random_inputs((torch.zeros(1, 3, 4, 4), torch.tensor([[5, 6]])))
    assert images.shape == (2, 3, 4, 4)
    assert images.unique().numel() == 96
    assert tokens.tolist() == [[5, 6], [5, 6]]
    assert torch.equal(random_inputs((torch.ones(1, 3, 4, 4), tokens[:1]))[0], images)


def test_beside_a_batch_a_single_input_stays_one() -> None:
    assert [tuple(x.shape) for x in random_inputs((torch.zeros(3, 2), torch.zeros(1, 2)))] == [(3, 2), (1, 2)]
