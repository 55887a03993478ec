"""Every product outside the layers is reported, by PyTorch's counter or by its weights."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from prunelab.measure.macs import uses
from prunelab.measure.uncounted import Uncounted, uncounted
from prunelab.models.cifar_resnet import resnet8


def rest(net: nn.Module, *x: Tensor) -> Uncounted:
    return uncounted(net, x, uses(net, x))


class Functional(nn.Module):
    """A layer that is called, weights that are used without one, and a product of activations."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.weight = nn.Linear(4, 4), nn.Parameter(torch.ones(5, 4))

    def forward(self, x: Tensor) -> Tensor:  # (1, 3, 4)
        return F.linear(self.layer(x), self.weight) @ torch.ones(1, 5, 2)


def test_a_network_of_layers_is_counted_completely() -> None:
    assert rest(resnet8(), torch.zeros(1, 3, 32, 32)) == Uncounted({}, ())
    assert rest(nn.ConvTranspose1d(2, 3, 4, stride=2), torch.zeros(1, 2, 5)) == Uncounted({}, ())


def test_functional_products_are_named_with_their_macs_at_the_module_that_computes_them() -> None:
    reported = rest(nn.Sequential(nn.Linear(4, 4), Functional()), torch.zeros(1, 3, 4))
    assert reported == Uncounted({"1": 3 * 20 + 3 * 5 * 2}, ())


class Embedded(nn.Module):
    """A layer that is given part of a parameter, and another that returns part of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.positions, self.table = nn.Linear(4, 4), nn.Parameter(torch.ones(1, 5, 4)), Table()
        self.positions.grad = torch.ones(1, 5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.positions[:, :3]) + self.layer(x[:, :3]) + self.table() @ torch.ones(4, 4)


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.ones(5, 4))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self) -> Tensor:
        return self.rows[:3]


def test_views_of_parameters_between_modules_are_counted_and_nothing_is_frozen() -> None:
    net = Embedded()
    for trained in (False, True):
        assert rest(net, torch.zeros(1, 5, 4, requires_grad=trained)).macs == {"": 3 * 16}
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == ["table.frozen"]
    assert torch.equal(net.positions.grad, torch.ones(1, 5, 4))
    net(torch.zeros(1, 3, 4)).sum().backward()


def test_attention_is_named_once() -> None:
    reported = rest(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.zeros(1, 5, 8))
    products = 2 * (5 * 5 * 8)  # scores and values; projections, linear1 and linear2 are counted
    assert reported == Uncounted({"self_attn": products}, ())
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("net", [nn.LSTM(3, 4, batch_first=True), nn.GRU(3, 4, batch_first=True)])
def test_a_recurrent_layer_is_named_whatever_kernel_it_takes(net: nn.Module) -> None:
    reported = rest(net, torch.zeros(1, 5, 3))
    assert reported.macs.get("", 0) > 0 or reported.unseen == ("weight_ih_l0", "weight_hh_l0")


def hooked(norm: Callable[[nn.Module], nn.Module], layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return norm(layer)


COMPUTED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "hooked weight_norm": lambda layer: hooked(nn.utils.weight_norm, layer),
    "hooked spectral_norm": lambda layer: hooked(nn.utils.spectral_norm, layer),
    "prune": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
}


@pytest.mark.parametrize("compute", COMPUTED.values(), ids=COMPUTED)
@pytest.mark.parametrize("alone", [False, True])
def test_what_a_counted_weight_is_computed_from_is_not_named(
    compute: Callable[[nn.Module], nn.Module], alone: bool
) -> None:
    layer = compute(nn.Linear(4, 4))
    net = layer if alone else nn.Sequential(nn.Conv1d(3, 3, 1), layer)
    x = torch.zeros(1, 3, 4)
    assert sum(use.macs for use in uses(net, x)) == 3 * 4 * 4 + (0 if alone else 4 * 3 * 3)
    assert rest(net, x) == Uncounted({}, ())


def test_of_computed_weights_only_those_without_a_counted_product_are_named() -> None:
    attention = nn.MultiheadAttention(4, 2)
    prune.l1_unstructured(attention, "in_proj_weight", 0.5)
    assert rest(attention, *[torch.zeros(3, 1, 4)] * 3).unseen == ()
    unknown = parametrizations.weight_norm(nn.Bilinear(2, 3, 4))
    assert rest(unknown, torch.zeros(1, 2), torch.zeros(1, 3)).unseen == ("parametrizations.weight.original1",)


def test_weights_of_an_unknown_product_are_named_and_embeddings_are_not() -> None:
    assert rest(nn.Bilinear(2, 3, 4), torch.zeros(1, 2), torch.zeros(1, 3)).unseen == ("weight",)
    table = nn.Sequential(nn.Embedding(5, 3), nn.LayerNorm([4, 3]), nn.Linear(3, 5))
    assert rest(table, torch.zeros(1, 4, dtype=torch.long)) == Uncounted({}, ())
