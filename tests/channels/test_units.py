"""Filters: their weights, biases, norms, and the weights that read them."""

import logging

import pytest
import torch
from small_nets import mobile, narrow_vgg, option_b
from torch import Tensor, nn

from prunelab.channels.groups import CUTS
from prunelab.channels.units import Channels, Filter, Neuron
from prunelab.core.granularity import Weight
from prunelab.core.network.prunable import prunable_weights
from prunelab.models.cifar_resnet import resnet8


class Crossed(nn.Module):
    """Norms that neither order nor name would pair with their convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.bn_b = nn.BatchNorm2d(4)
        self.bn_a = nn.BatchNorm2d(4)
        self.a = nn.Conv2d(3, 4, 3, bias=False)
        self.b = nn.Conv2d(4, 4, 3)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.bn_b(self.b(torch.relu(self.bn_a(self.a(x)))))))


CROSSED = torch.zeros(1, 3, 8, 8)


def bound(net: nn.Module, example: Tensor | None = None, units: Channels | None = None) -> Channels:
    return (units or Filter()).bind(net, prunable_weights(net), example)


def test_a_filter_is_masked_with_bias_norm_and_the_weights_that_read_it() -> None:
    filters = bound(Crossed(), CROSSED)
    assert list(filters.numbers) == ["a.weight", "b.weight"]  # last makes the output, which stays
    masks = filters.expand({"a.weight": torch.tensor([True, False, True, True]), "b.weight": torch.ones(4).bool()})
    assert set(masks) == {"a.weight", "bn_a.weight", "bn_a.bias", "b.weight"}
    assert not masks["a.weight"][1].any()
    assert masks["bn_a.bias"].tolist() == [True, False, True, True]
    assert not masks["b.weight"][:, 1].any()
    assert masks["b.weight"].sum() == 4 * 3 * 9


def test_a_unit_scores_the_mean_over_its_makers_of_the_sum_over_a_filter() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.a(x) + self.b(x))

    scores = {"a.weight": torch.tensor([1.0, 2]).view(2, 1, 1, 1), "b.weight": torch.tensor([5.0, 8]).view(2, 1, 1, 1)}
    result = bound(Sum(), torch.zeros(1, 1, 4, 4)).reduce(scores | {"c.weight": torch.ones(1, 2, 1, 1)})
    assert result["a.weight"].tolist() == [3.0, 5.0]
    assert list(result) == ["a.weight"]


def test_weights_that_read_a_dead_channel_do_not_count_and_a_dead_unit_stays_dead() -> None:
    filters = bound(Crossed(), CROSSED)
    weights = prunable_weights(Crossed())
    scores = {name: torch.ones_like(w) for name, w in weights.items()}
    scores["b.weight"][:, 1] = -torch.inf
    scores["b.weight"][2] = -torch.inf
    units = filters.reduce(scores)["b.weight"]
    assert units.tolist() == [27.0, 27.0, -torch.inf, 27.0]


def test_a_masked_filter_is_silent_whatever_bias_and_shift_it_had() -> None:
    torch.manual_seed(0)
    net = Crossed()
    for p in net.parameters():
        nn.init.normal_(p)
    filters = bound(net, CROSSED)
    keep = {name: torch.arange(len(units)) != 1 for name, units in filters.numbers.items()}
    with torch.no_grad():
        for name, mask in filters.expand(keep).items():
            net.get_parameter(name).mul_(mask)
    outputs: dict[str, Tensor] = {}
    for name in ("bn_a", "bn_b"):
        net.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: outputs.__setitem__(name, out))
    net.train()(torch.randn(5, 3, 8, 8))
    for out in outputs.values():
        assert torch.equal(out[:, 1], torch.zeros_like(out[:, 1]))
        assert out[:, 0].abs().sum() > 0


def test_looking_at_a_net_leaves_modes_buffers_and_random_streams_alone() -> None:
    net = Crossed()
    net.a.eval()
    before = {name: b.clone() for name, b in net.named_buffers()}
    modes = [m.training for m in net.modules()]
    rng = torch.get_rng_state()
    bound(net, torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert modes == [m.training for m in net.modules()]
    assert all(torch.equal(b, before[name]) for name, b in net.named_buffers())
    assert torch.equal(rng, torch.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_without_an_example_it_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="set example_input_array"):
        bound(Crossed())


def test_a_net_without_convolutions_has_no_filters_but_neurons() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"^no filters to prune \(.*\); try prune/granularity=neuron "):
        bound(net, torch.zeros(1, 3))
    assert {name: len(u) for name, u in bound(net, torch.zeros(1, 3), Neuron()).numbers.items()} == {"0.weight": 4}


def test_filters_and_neurons_together_are_all_channels() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 2))
    example = torch.zeros(1, 3, 4, 4)
    result = [set(bound(net, example, kind).numbers) for kind in (Filter(), Neuron(), Channels())]
    assert result == [{"0.weight"}, {"2.weight"}, {"0.weight", "2.weight"}]


def test_a_skipped_weight_keeps_its_whole_group() -> None:
    net = resnet8()
    params = prunable_weights(net, ["layer3.0.conv2.*"])
    filters = Filter().bind(net, params, torch.zeros(1, 3, 32, 32))
    assert "layer3.0.conv2.weight" not in filters.numbers
    assert "conv1.weight" not in filters.numbers  # its channels live on in the skipped layer
    assert "layer3.0.conv1.weight" in filters.numbers


def test_filters_of_single_layers_are_the_first_convolutions_of_blocks() -> None:
    makers = bound(resnet8(), torch.zeros(1, 3, 32, 32), Filter(summed=False)).makers
    assert makers == ("layer1.0.conv1.weight", "layer2.0.conv1.weight", "layer3.0.conv1.weight")
    chain = bound(narrow_vgg(), torch.zeros(1, 3, 32, 32), Filter(summed=False)).makers
    assert len(chain) == 8  # all: nothing is added up
    inverted = bound(mobile(), torch.zeros(1, 3, 32, 32), Filter(summed=False)).makers
    assert "stage2.0.expand.conv.weight" in inverted  # with the depthwise convolution behind it
    assert "stage2.1.project.conv.weight" not in inverted


class GroupedResidual(nn.Module):
    """What a grouped convolution, which is not depthwise, adds to a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.inner, self.head = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.inner((x + self.grouped(x)).relu()).relu())


def test_a_grouped_convolution_makes_channels_and_a_depthwise_one_does_not() -> None:
    filters = bound(GroupedResidual(), torch.zeros(1, 3, 8, 8), Filter(summed=False))
    assert filters.makers == ("inner.weight",)


def test_channels_of_a_transposed_convolution_are_scored_cut_and_set_to_zero_along_its_second_axis() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ConvTranspose2d(2, 3, 2), nn.Conv2d(3, 2, 1))
    filters = bound(net, torch.zeros(1, 3, 4, 4), Filter())
    weights = {name: p.detach() for name, p in net.named_parameters() if p.dim() > 1}
    scores = filters.reduce(weights)
    torch.testing.assert_close(scores["1.weight"], weights["1.weight"].sum((0, 2, 3)))
    masks = filters.expand({"1.weight": torch.tensor([True, False, True])})
    assert masks["1.weight"].all((0, 2, 3)).tolist() == [True, False, True]
    assert [(cut.name, cut.axes) for cut in CUTS["channels"](net, filters)] == [("1.weight", (0,)), ("2.weight", (1,))]
    assert [(cut.name, cut.axes) for cut in CUTS["shapes"](net, filters)] == [
        ("0.weight", (1, 2, 3)), ("1.weight", (0, 2, 3))]  # fmt: skip


def test_a_group_with_a_frozen_maker_stays_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    net = resnet8()
    net.layer1[0].conv2.requires_grad_(False)
    filters = bound(net, torch.zeros(1, 3, 32, 32))
    assert "conv1.weight" not in filters.makers
    assert "layer1.0.conv1.weight" not in filters.makers  # which it reads
    assert "layer2.0.conv1.weight" in filters.makers
    assert any(
        m.startswith("channels of conv1.weight") and "coupled to layer1.0.conv2.weight" in m for m in caplog.messages
    )


@pytest.mark.parametrize(("frozen", "stays", "left"), [("bn_a", "a", "b"), ("last", "b", "a")])
def test_channels_that_a_frozen_layer_scales_or_reads_stay_and_are_named(
    frozen: str, stays: str, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    net = Crossed()
    net.get_submodule(frozen).weight.requires_grad_(False)
    assert list(bound(net, CROSSED).numbers) == [f"{left}.weight"]
    assert f"channels of {stays}.weight stay: coupled to {frozen}.weight, skipped or frozen" in caplog.messages
    net.b.weight.requires_grad_(False)  # which reads a and makes b
    with pytest.raises(ValueError, match=r"no filters to prune \(.*a.weight: .*b.weight skipped or frozen"):
        bound(net, CROSSED)


def test_what_stays_because_of_an_unknown_operation_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x).cumsum(1)))

    with caplog.at_level(logging.WARNING):
        filters = bound(Odd(), torch.zeros(1, 1, 4, 4))
    assert list(filters.numbers) == ["b.weight"]
    assert "a.weight" in caplog.text
    assert "aten.cumsum" in caplog.text


@pytest.mark.parametrize("bias", [True, False])
def test_a_group_before_a_transposed_convolution_is_cut_there_too(bias: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 6, 2, bias=bias), nn.Conv2d(6, 2, 1))
    structures = bound(net, torch.zeros(1, 3, 4, 4)).structures(net)
    assert structures["0.weight"] == (("Conv2d", 0), ("ConvTranspose2d", 0))
    shift = (("ConvTranspose2d", 0),) if bias else ()
    assert structures["1.weight"] == (("Conv2d", 1), *shift, ("ConvTranspose2d", 1))


def test_groups_are_alike_where_the_same_layers_are_cut_whatever_their_size() -> None:
    net = option_b()
    structures = bound(net, torch.zeros(2, 3, 32, 32)).structures(net)
    inner = {structures[f"layer{stage}.{block}.conv1.weight"] for stage in (1, 2, 3) for block in (0, 1)}
    assert inner == {(("BatchNorm2d", 0), ("Conv2d", 0), ("Conv2d", 1))}  # 16, 32 and 64 filters, norm and reader
    stream = structures["layer3.0.conv2.weight"]  # of two blocks and a projection, read by a block and the head
    assert stream == (*[("BatchNorm2d", 0)] * 3, *[("Conv2d", 0)] * 3, ("Conv2d", 1), ("Linear", 1))
    weights = Weight().structures(net)
    assert weights["fc.weight"] == (("Linear", 0),)
    assert {weights[name] for name in prunable_weights(net) if name != "fc.weight"} == {(("Conv2d", 0),)}
