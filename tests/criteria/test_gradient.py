"""Gradient: |dL/dw| worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunelab.core.context import Batch, Context
from prunelab.criteria.gradient import Gradient

BATCHES = [
    (torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[0.0], [1.0]])),
    (torch.tensor([[0.0, 1.0]]), torch.tensor([[-1.0]])),
]


def scores(criterion: Gradient, weight: list[list[float]], batches: list[Batch], loss=F.mse_loss) -> list[list[float]]:
    net = nn.Linear(len(weight[0]), len(weight), bias=False)
    net.weight.data = torch.tensor(weight)

    def draw(count: int, generator: torch.Generator) -> list[Batch]:
        return batches[:count]

    ctx = Context(net, {"weight": net.weight}, torch.Generator(), draw=draw, loss=loss)
    return criterion(ctx)["weight"].tolist()


def test_one_batch_by_hand() -> None:
    # errors -3 and 2, so dL/dw = 2/2 * (-3 * (1, 2) + 2 * (3, 0)) = (3, -6)
    assert scores(Gradient(), [[1.0, -2.0]], BATCHES) == [[3.0, 6.0]]


def test_two_batches_are_averaged_before_the_sign_is_dropped() -> None:
    # the second has error -1: 2 * -1 * (0, 1) = (0, -2); the mean of (3, -6) and (0, -2)
    assert scores(Gradient(batches=2), [[1.0, -2.0]], BATCHES) == [[1.5, 4.0]]
    against = [(torch.ones(1, 1), torch.zeros(1, 1)), (torch.ones(1, 1), 2 * torch.ones(1, 1))]
    assert scores(Gradient(batches=2), [[1.0]], against) == [[0.0]]  # 2 and -2


def test_a_pruned_weight_scores_too() -> None:
    # errors 1 * 1 - 0 = 1 and 3 - 1 = 2: (1, 2) * 1 + (3, 0) * 2 = (7, 2)
    assert scores(Gradient(), [[1.0, 0.0]], BATCHES) == [[7.0, 2.0]]


def test_cross_entropy_by_hand() -> None:
    # softmax (1/2, 1/2) against class 0: (-1/2, 1/2) * x
    result = scores(Gradient(), [[0.0], [0.0]], [(torch.tensor([[3.0]]), torch.tensor([0]))], F.cross_entropy)
    assert result == [[pytest.approx(1.5)], [pytest.approx(1.5)]]
