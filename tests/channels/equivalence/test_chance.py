"""Random operations give constants, which agree in networks of any width."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from prunelab.channels.equivalence.chance import WithoutChance

X = torch.linspace(0.1, 1, 6)
NOISY: dict[str, tuple[Callable[[], Tensor], list[float]]] = {
    "randn": (lambda: torch.randn(2), [0, 0]),
    "normal": (lambda: torch.normal(torch.tensor([1.0, 3]), 2.0), [1, 3]),
    "normal_": (lambda: torch.empty(2).normal_(4, 1), [4, 4]),
    "rand": (lambda: torch.rand_like(X[:2]), [0.5, 0.5]),
    "uniform_": (lambda: torch.empty(2).uniform_(-1, 5), [2, 2]),
    "bernoulli": (lambda: X.new_empty(2).bernoulli_(0.1), [1, 1]),
    "randint": (lambda: torch.randint(3, 9, (2,)), [3, 3]),
    "random_": (lambda: torch.empty(2).random_(3, 9), [3, 3]),
    "randperm": (lambda: torch.randperm(3), [0, 1, 2]),
    "multinomial": (lambda: torch.multinomial(X, 2), [0, 0]),
    "a generator of one's own": (lambda: torch.rand(2, generator=torch.Generator()), [0.5, 0.5]),
    "dropout": (lambda: F.dropout(torch.tensor([1.0, 2]), 0.5), [2, 4]),
    "rrelu": (lambda: F.rrelu(torch.tensor([-4.0, 2]), 0.25, 0.75, training=True), [-2, 2]),
}  # fmt: skip


@pytest.mark.parametrize(("draw", "expected"), NOISY.values(), ids=NOISY)
def test_a_random_operation_gives_the_same_whatever_the_seed(draw: Callable[[], Tensor], expected: list[float]) -> None:
    with WithoutChance(), torch.no_grad():
        assert draw().tolist() == expected


def test_attention_drops_nothing_and_a_generator_of_the_networks_own_is_not_advanced() -> None:
    x = torch.randn(1, 1, 4, 8)
    own = torch.Generator()
    before = own.get_state()
    with WithoutChance(), torch.no_grad():
        torch.rand(2, generator=own)
        outputs = [F.scaled_dot_product_attention(x, x, x, dropout_p=0.5) for _ in range(2)]
    assert torch.equal(*outputs)
    assert torch.equal(own.get_state(), before)
