"""Norms of masked networks against norms of the channels that are left."""

import copy
import pickle

import pytest
import torch
from attention_nets import ChannelNorm, scrambled
from torch import Tensor, nn

from prunelab.core.network.living_norms import LivingNorm, forget, plain_norms, take_notice

LIVING = torch.tensor([True, False, True, True, False, True])


def masked(norm: nn.Module, axis: int = -1) -> nn.Module:
    net = nn.Sequential(scrambled(norm))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(LIVING)
    take_notice(net, {"0.weight": axis}, {"0.weight": LIVING})
    return net


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_statistics_are_those_of_the_living_whatever_the_others_are(kind: type[nn.Module]) -> None:
    net, x = masked(kind(6)).double(), torch.randn(4, 6, dtype=torch.float64)
    alone = x[:, LIVING]
    if kind is nn.LayerNorm:
        alone = alone - alone.mean(1, keepdim=True)
    eps = net[0].eps or torch.finfo(torch.float64).eps
    alone = alone / (alone.square().mean(1, keepdim=True) + eps).sqrt() * net[0].weight[LIVING]
    expected = torch.zeros(4, 6, dtype=torch.float64)
    expected[:, LIVING] = alone + (net[0].bias[LIVING] if kind is nn.LayerNorm else 0)
    torch.testing.assert_close(net(x), expected, rtol=1e-12, atol=1e-12)


def test_channels_of_images_lie_along_axis_1() -> None:
    net, x = masked(ChannelNorm(6), axis=1), torch.randn(2, 6, 3, 3)
    small = ChannelNorm(4)
    small.weight.data, small.bias.data = net[0].weight[LIVING], net[0].bias[LIVING]
    torch.testing.assert_close(net(x)[:, LIVING], small(x[:, LIVING]))
    assert not net(x)[:, ~LIVING].any()


def test_a_group_norm_of_one_group_counts_the_living_at_all_positions() -> None:
    net, x = masked(nn.GroupNorm(1, 6), axis=1).double(), torch.randn(2, 6, 3, 5, dtype=torch.float64)
    small = nn.GroupNorm(1, 4).double()
    small.weight.data, small.bias.data = net[0].weight[LIVING], net[0].bias[LIVING]
    torch.testing.assert_close(net(x)[:, LIVING], small(x[:, LIVING]), rtol=1e-12, atol=1e-12)
    assert not net(x)[:, ~LIVING].any()


def test_gradients_are_those_of_a_small_norm() -> None:
    net, small = masked(nn.LayerNorm(6)), nn.LayerNorm(4)
    small.load_state_dict({name: p[LIVING] for name, p in net[0].named_parameters()})
    x = (torch.randn(3, 6) * LIVING).requires_grad_()
    y = x.detach()[:, LIVING].requires_grad_()
    target = torch.randn(3, 4)
    (net(x)[:, LIVING] * target).sum().backward()
    (small(y) * target).sum().backward()
    torch.testing.assert_close(x.grad[:, LIVING], y.grad)
    assert not x.grad[:, ~LIVING].any()
    torch.testing.assert_close(net[0].weight.grad[LIVING], small.weight.grad)


def test_a_norm_that_lost_its_masks_or_is_left_plain_for_a_while_is_what_it_was() -> None:
    net, x = masked(nn.LayerNorm(6)), torch.randn(3, 6)
    plain = nn.LayerNorm(6)
    plain.load_state_dict(net[0].state_dict())  # which has the names of a plain one
    masked_output = net(x)
    assert not torch.allclose(masked_output, plain(x))
    with plain_norms(net):
        assert type(net[0]) is nn.LayerNorm
        assert torch.equal(net(x), plain(x))
    assert torch.equal(net(x), masked_output)
    take_notice(net, {"0.weight": -1}, {"0.weight": torch.ones(6, dtype=torch.bool)})
    assert type(net[0]) is nn.LayerNorm
    assert torch.equal(net(x), plain(x))
    assert vars(net[0]).keys() == vars(plain).keys()
    assert not net[0]._forward_pre_hooks


def test_copies_know_the_masks_and_print_as_plain_norms() -> None:
    net, x = masked(nn.LayerNorm(6)), torch.randn(3, 6)
    copied = copy.deepcopy(net)
    take_notice(net, {"0.weight": -1}, {})
    assert isinstance(copied[0], LivingNorm)
    assert not torch.equal(copied(x), net(x))
    assert str(copied) == str(net)


@pytest.mark.parametrize("autocast", [False, True])
def test_dtypes_are_those_of_a_plain_norm(autocast: bool) -> None:
    def dtype(net: nn.Module, x: Tensor) -> torch.dtype:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return net(x).dtype

    for weights in (torch.float32, torch.bfloat16):
        x = torch.randn(3, 6, dtype=torch.bfloat16)
        if weights == torch.float32 and not autocast:
            x = x.float()
        assert dtype(masked(nn.LayerNorm(6)).to(weights), x) == dtype(nn.LayerNorm(6).to(weights), x)


def test_a_compiled_network_notices() -> None:
    net = nn.Sequential(scrambled(nn.LayerNorm(6)))
    compiled, x = torch.compile(net, backend="eager"), torch.randn(3, 6)
    before = compiled(x)
    for living in (LIVING, ~LIVING):
        take_notice(net, {"0.weight": -1}, {"0.weight": living})
        torch.testing.assert_close(compiled(x), net(x))
        assert not torch.allclose(compiled(x), before)
    take_notice(net, {"0.weight": -1}, {})
    assert torch.equal(compiled(x), before)


def test_a_norm_that_knows_a_mask_is_pickled_and_copied_with_it() -> None:
    net = nn.Sequential(nn.LayerNorm(4))
    take_notice(net, {"0.weight": -1}, {"0.weight": torch.tensor([True, False, True, True])})
    x = torch.randn(2, 4)
    for twin in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert torch.equal(twin(x), net(x))
        assert twin.state_dict().keys() == net.state_dict().keys()
        forget(twin[0])
        assert type(twin[0]) is nn.LayerNorm
        assert not twin[0]._forward_pre_hooks
