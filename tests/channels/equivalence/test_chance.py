"""Random operations give constants, which agree in networks of any width."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from prunelab.channels.equivalence.chance import WithoutChance

X = torch.linspace(0.1, 1, 6)
NOISY: dict[str, tuple[Callable[[], Tensor], list[float]]] = {
    "randn": (lambda: torch.randn(2), [0.75, 0.75]),
    "normal": (lambda: torch.normal(torch.tensor([1.0, 3]), 2.0), [2.5, 4.5]),
    "normal_": (lambda: torch.empty(2).normal_(4, 1), [4.75, 4.75]),
    "rand": (lambda: torch.rand_like(X[:2]), [33 / 64] * 2),
    "uniform_": (lambda: torch.empty(2).uniform_(-1, 5), [-1 + 6 * 33 / 64] * 2),
    "bernoulli": (lambda: X.new_empty(2).bernoulli_(0.1), [1, 1]),
    "randint": (lambda: torch.randint(3, 9, (2,)), [4, 4]),
    "random_": (lambda: torch.empty(2).random_(3, 9), [4, 4]),
    "randint of one number": (lambda: torch.randint(3, 4, (2,)), [3, 3]),
    "complex": (lambda: torch.randn(1, dtype=torch.cfloat), [0.75 + 0.75j]),
    "exponential_": (lambda: torch.empty(2).exponential_(), [0.75, 0.75]),
    "poisson": (lambda: torch.poisson(torch.tensor([0.5, 2])), [0.5, 2]),
    "gamma": (lambda: torch.distributions.Gamma(torch.tensor([3.0]), 2.0).sample(), [1.5]),
    "beta": (lambda: torch.distributions.Beta(torch.tensor([3.0]), torch.tensor([1.0])).sample(), [0.75]),
    "randperm": (lambda: torch.randperm(3), [0, 1, 2]),
    "multinomial": (lambda: torch.multinomial(X, 2), [0, 0]),
    "a generator of one's own": (lambda: torch.rand(2, generator=torch.Generator()), [33 / 64] * 2),
    "dropout": (lambda: F.dropout(torch.tensor([1.0, 2]), 0.5), [2, 4]),
    "rrelu": (lambda: F.rrelu(torch.tensor([-4.0, 2]), 0.25, 0.75, training=True), [-2, 2]),
}  # fmt: skip


@pytest.mark.parametrize(("draw", "expected"), NOISY.values(), ids=NOISY)
def test_a_random_operation_gives_the_same_whatever_the_seed(draw: Callable[[], Tensor], expected: list[float]) -> None:
    with WithoutChance(), torch.no_grad():
        assert draw().tolist() == expected


HALF: dict[str, Callable[[], Tensor]] = {
    "of a uniform number": lambda: torch.rand(1) > 0.5,
    "rounded down": lambda: torch.floor(0.5 + torch.rand(1)),
    "of noise": lambda: torch.randn(1) > 0,
    "by a coin": lambda: torch.randint(2, (1,)),
    "by Bernoulli": lambda: torch.empty(1).bernoulli_(0.5),
}


@pytest.mark.parametrize("draw", HALF.values(), ids=HALF)
def test_what_is_dropped_half_of_the_time_is_kept(draw: Callable[[], Tensor]) -> None:
    with WithoutChance():
        assert draw() == 1


def test_attention_drops_nothing_and_a_generator_of_the_networks_own_is_not_advanced() -> None:
    x = torch.randn(1, 1, 4, 8)
    own = torch.Generator()
    before = own.get_state()
    with WithoutChance(), torch.no_grad():
        torch.rand(2, generator=own)
        outputs = [F.scaled_dot_product_attention(x, x, x, dropout_p=0.5) for _ in range(2)]
    assert torch.equal(*outputs)
    assert torch.equal(own.get_state(), before)
