"""GraSP against an explicit Hessian, and against brute force over single removals."""

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call

from prunelab.core.context import Batch, Context
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.numbers.selection import keep_top
from prunelab.criteria.grasp import GraSP

SHAPES = {"0.weight": (3, 2), "2.weight": (2, 3)}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3, bias=False), nn.Tanh(), nn.Linear(3, 2, bias=False)).double()


def data() -> list[Batch]:
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 2, generator=g, dtype=torch.float64), torch.randint(2, (n,), generator=g)) for n in (6, 3)]


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def loss(model: nn.Module, weights: Tensor, batches: list[Batch], temperature: float) -> Tensor:
    """The mean over the batches as a function of all weights in one vector."""
    state = {name: part.view(SHAPES[name]) for name, part in zip(SHAPES, weights.split([6, 6]), strict=True)}
    terms = [F.cross_entropy(functional_call(model, state, (x,)) / temperature, y) for x, y in batches]
    return torch.stack(terms).mean()


def scored(model: nn.Module, criterion: GraSP) -> Tensor:
    ctx = Context(model, prunable_weights(model), torch.Generator(), draw=lambda count, _: data()[:count])
    result = criterion(ctx)
    assert list(result) == list(SHAPES)
    assert all(score.shape == SHAPES[name] and not score.requires_grad for name, score in result.items())
    return torch.cat([score.flatten() for score in result.values()])


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_score_is_w_times_hessian_times_gradient(count: int, temperature: float) -> None:
    model, batches = net(), data()[:count]
    w = flat(model).requires_grad_()
    (g,) = torch.autograd.grad(loss(model, w, batches, temperature), w)
    h = hessian(lambda v: loss(model, v, batches, temperature), w.detach())
    torch.testing.assert_close(scored(model, GraSP(count, temperature)), w.detach() * (h @ g), rtol=1e-9, atol=1e-15)


def test_removing_the_lowest_scores_keeps_the_gradient_norm_highest_to_first_order() -> None:
    """All 220 ways to take three weights a step towards zero; the norm is squared and differenced, not derived."""
    model, eps = net(), 1e-6
    w = flat(model)

    def norm(weights: Tensor) -> float:
        weights = weights.clone().requires_grad_()
        (g,) = torch.autograd.grad(loss(model, weights, data()[:1], 3.0), weights)
        return (g @ g).item()

    def after(removed: tuple[int, ...]) -> float:
        shrunk = w.clone()
        shrunk[list(removed)] *= 1 - eps
        return norm(shrunk)

    scores = scored(model, GraSP(1, 3.0))
    best = max(combinations(range(12), 3), key=after)
    assert best == tuple((~keep_top(scores, 9)).nonzero().flatten().tolist())
    for j in range(12):  # and the score is half of what the squared norm loses
        assert scores[j].item() == pytest.approx((norm(w) - after((j,))) / (2 * eps), rel=1e-3, abs=1e-8)


def test_the_default_temperature_is_that_of_the_authors_code() -> None:
    model = net()
    assert torch.equal(scored(model, GraSP()), scored(model, GraSP(1, 200.0)))


class Attention(nn.Module):
    """One head over two tokens of two channels, fused where PyTorch has a kernel for it."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.query, self.out, self.fused = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False), fused

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(-1, 1, 2, 2)
        q = self.query(x)
        if self.fused:
            return self.out(F.scaled_dot_product_attention(q, x, x)).mean((1, 2))
        return self.out((q @ x.mT / 2**0.5).softmax(-1) @ x).mean((1, 2))


def test_fused_attention_scores_as_by_matrix_products_and_is_fused_again_afterwards() -> None:
    g = torch.Generator().manual_seed(1)
    batch = torch.randn(6, 4, generator=g), torch.randint(2, (6,), generator=g)

    def scores(fused: bool) -> dict[str, Tensor]:
        net = Attention(fused)
        return GraSP()(Context(net, prunable_weights(net), torch.Generator(), draw=lambda *_: [batch]))

    result, expected = scores(fused=True), scores(fused=False)
    for name, score in expected.items():
        assert score.all()
        torch.testing.assert_close(result[name], score, rtol=1e-4, atol=1e-12)
    assert torch.backends.cuda.flash_sdp_enabled()
