"""Norms of layers' inputs, worked out by hand, without a trace in the network."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunelab.core.context import Context
from prunelab.core.network.prunable import prunable_weights


def norms(net: nn.Module, *inputs: Tensor, **options: Any) -> dict[str, Tensor]:
    context = Context(net, prunable_weights(net), torch.Generator(), **options)
    return context.input_norms([(x, None) for x in inputs])


def test_a_linear_layer_has_a_norm_for_each_input_over_all_batches() -> None:
    inputs = torch.tensor([[3.0, 1.0], [0.0, 2.0]]), torch.tensor([[4.0, 2.0]])
    assert norms(nn.Linear(2, 5), *inputs)["weight"].tolist() == [[5.0, 3.0]]


def test_positions_of_a_linear_layer_count_as_images_do() -> None:
    inputs = torch.tensor([[[3.0, 1.0], [0.0, 2.0]], [[4.0, 2.0], [0.0, 0.0]]])  # (2, positions, in)
    assert norms(nn.Linear(2, 5), inputs)["weight"].tolist() == [[5.0, 3.0]]


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_a_convolution_has_a_norm_for_each_channel_over_images_and_positions(kind: type) -> None:
    layer = kind(2, 5, 1)
    size = (4, 1, 1)[: layer.weight.dim() - 2]
    inputs = torch.tensor([1.0, 3.0]).view(1, 2, *[1] * len(size)).expand(4, 2, *size)  # 4 images of 4 positions
    found = norms(layer, inputs)["weight"]
    assert found.shape == (1, 2, *[1] * len(size))
    assert found.flatten().tolist() == [4.0, 12.0]
    assert (layer.weight * found).shape == layer.weight.shape


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (2, [[2.0, 4.0], [2.0, 4.0], [6.0, 8.0], [6.0, 8.0]]),
        (4, [[2.0], [4.0], [6.0], [8.0]]),
    ],
)
def test_an_output_of_a_grouped_convolution_has_the_norms_of_its_group(groups: int, expected: list) -> None:
    layer = nn.Conv2d(4, 4, 3, padding=1, groups=groups)
    inputs = torch.arange(1.0, 5.0).view(1, 4, 1, 1).expand(1, 4, 2, 2)  # a channel of c has norm 2 c
    found = norms(layer, inputs)["weight"]
    assert found.shape == (4, 4 // groups, 1, 1)
    assert found.flatten(1).tolist() == expected
    assert (layer.weight * found).shape == layer.weight.shape


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_has_a_norm_for_each_channel_along_its_first_axis(groups: int) -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, groups=groups)
    inputs = torch.arange(1.0, 5.0).view(1, 4, 1, 1).expand(1, 4, 2, 2)  # a channel of c has norm 2 c
    found = norms(layer, inputs)["weight"]
    assert found.shape == (4, 1, 1, 1)
    assert found.flatten().tolist() == [2.0, 4.0, 6.0, 8.0]


def test_a_weight_of_two_layers_has_what_reaches_it_in_both() -> None:
    net = nn.Sequential(nn.Conv1d(1, 2, 1, bias=False), nn.ConvTranspose1d(2, 1, 1, bias=False))
    net[0].weight.data = torch.tensor([3.0, 4.0]).view(2, 1, 1)
    net[1].weight = net[0].weight
    found = norms(net, torch.ones(1, 1, 1))["0.weight"]
    assert found.shape == net[0].weight.shape
    assert found.flatten().tolist() == pytest.approx([10**0.5, 17**0.5])  # of (1, 3) and (1, 4)


def test_the_norm_is_that_of_what_reaches_the_layer() -> None:
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    net[0].weight.data = torch.tensor([[2.0], [-1.0]])
    found = norms(net, torch.tensor([[3.0], [4.0], [-1.0]]))
    assert found["0.weight"].item() == pytest.approx(26**0.5)
    assert found["2.weight"].tolist() == [[10.0, 1.0]]  # of (6, 8, 0) and (0, 0, 1)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.idle = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False), nn.Linear(1, 1)
        self.b.weight = self.a.weight
        nn.init.constant_(self.a.weight, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(input=self.a(x))


def test_a_shared_weight_has_the_norm_of_all_its_inputs() -> None:
    net = Twice()
    net.idle = nn.Identity()
    assert norms(net, torch.tensor([[1.0]]))["a.weight"].item() == pytest.approx(5**0.5)  # of 1 and 2


def test_a_layer_that_does_not_run_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^idle\.weight: the layer does not run, .*; skip it"):
        norms(Twice(), torch.tensor([[1.0]]))


def test_half_precision_is_summed_in_float32() -> None:
    found = norms(nn.Linear(1, 1).bfloat16(), torch.ones(1000, 1, dtype=torch.bfloat16))["weight"]
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(1000**0.5)


def test_ranks_have_the_root_of_the_mean_of_their_squares() -> None:
    def with_a_silent_rank(tensors: list[Tensor]) -> None:
        for tensor in tensors:
            tensor /= 2

    found = norms(nn.Linear(1, 1), torch.tensor([[3.0], [4.0]]), average=with_a_silent_rank)
    assert found["weight"].item() == pytest.approx(12.5**0.5)


class Fragile(nn.Module):
    """Fails on batches of three, after two layers have run."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 3:
            raise KeyError("forward")
        return x


@pytest.mark.parametrize("sizes", [(4, 2), (4, 3)])
def test_nothing_is_left_behind_also_after_an_exception(sizes: tuple[int, ...]) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Conv2d(2, 2, 1), Fragile())
    net(torch.randn(2, 1, 4, 4)).sum().backward()
    net[1].eval()
    before = traces(net)
    inputs = [torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(n)) for n in sizes]
    if 3 in sizes:
        with pytest.raises(KeyError, match="forward"):
            norms(net, *inputs)
    else:
        assert all(not norm.requires_grad for norm in norms(net, *inputs).values())
    after = traces(net)
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not any(module._forward_pre_hooks for module in net.modules())


def traces(net: nn.Module) -> dict[str, Tensor]:
    modes = torch.tensor([module.training for module in net.modules()])
    grads = {f"{name}.grad": p.grad.clone() for name, p in net.named_parameters()}
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    return {"modes": modes, "rng": torch.get_rng_state(), "grad": torch.tensor(torch.is_grad_enabled())} | grads | state


def test_a_compiled_network_has_the_same_norms() -> None:
    net, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(5, 3)
    expected = norms(net, x)
    compiled = torch.compile(net, backend="eager")
    compiled(x)
    found = norms(compiled, x)
    assert all(torch.equal(found[f"_orig_mod.{name}"], norm) for name, norm in expected.items())
