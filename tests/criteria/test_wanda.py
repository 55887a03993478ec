"""Wanda: |w| times the norm of its input, worked out by hand."""

import torch
from torch import nn

from prunelab.core.allocation import Uniform
from prunelab.core.granularity import Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.criteria.norm import Norm
from prunelab.criteria.wanda import Wanda


def pruned(criterion: Wanda | Norm) -> tuple[list[list[float]], Pruner]:
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    batches = [(torch.tensor([[3.0, 1.0], [0.0, 0.0]]), torch.tensor([0, 1])), (torch.tensor([[4.0, 0.0]]), None)]
    pruner = Pruner(criterion, Weight(), Uniform(), Rounds(rate=0.5, start=0.0))
    pruner.attach(layer, draw=lambda count, _: batches[:count])
    scores = pruner.unit_scores()["weight"].tolist()
    pruner.update(Progress(0, 10, 5))
    return scores, pruner


def test_scores_are_magnitudes_times_input_norms() -> None:
    assert pruned(Wanda(batches=2))[0] == [[5.0, 2.0], [15.0, 0.5]]  # the inputs have norms 5 and 1
    assert pruned(Wanda(batches=1))[0] == [[3.0, 2.0], [9.0, 0.5]]


def test_a_small_weight_with_a_large_input_is_kept_where_magnitude_removes_it() -> None:
    assert pruned(Wanda(batches=2))[1].masks["weight"].tolist() == [[True, False], [True, False]]
    assert pruned(Norm())[1].masks["weight"].tolist() == [[False, True], [True, False]]
