"""A criterion of one's own is held to one score a weight, and a loss to one that has a gradient."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.core.allocation import Global
from prunelab.core.context import Context, cross_entropy
from prunelab.core.criterion import Criterion
from prunelab.core.granularity import Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.criteria.grasp import GraSP
from prunelab.criteria.taylor import Taylor

LAST = Progress(step=9, total=10, epoch=5)


class Returns(Criterion):
    """Whatever `change` makes of |w| by name."""

    def __init__(self, change: Any) -> None:
        self.change = change

    def __call__(self, ctx: Context) -> Any:
        return self.change({name: w.detach().abs() for name, w in ctx.params.items()})


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))


def pruner(criterion: Criterion) -> Pruner:
    return Pruner(criterion, Weight(), Global(), Rounds(rate=0.5, start=0.0))


WRONG = {
    "per filter": (lambda s: s | {"0.weight": s["0.weight"].sum((1, 2, 3), True)}, r"0.weight are \(4, 1, 1, 1\)"),
    "a scalar": (lambda s: {name: x.sum() for name, x in s.items()}, r"0.weight are \(\) of torch.float32"),
    "integers": (lambda s: {name: x.long() for name, x in s.items()}, "of torch.int64, expected floats"),
    "numbers": (lambda s: dict.fromkeys(s, 1.0), "0.weight are float"),
    "a layer less": (lambda s: {"2.weight": s["2.weight"]}, "no scores of 0.weight"),
    "a layer more": (lambda s: s | {"zz": s["2.weight"]}, "scores of zz"),
    "nothing": (lambda s: None, "returned a NoneType"),
    "not numbers": (lambda s: s | {"2.weight": s["2.weight"] * torch.nan}, "2.weight: its scores contain NaN"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_what_is_not_one_score_a_weight_is_refused_and_nothing_is_pruned(change: Any, message: str) -> None:
    model, method = net(), pruner(Returns(change))
    method.attach(model)
    with pytest.raises(ValueError, match=message) as caught:
        method.update(LAST)
    assert "Returns" in str(caught.value) or "NaN" in message
    assert "\n" not in str(caught.value)
    assert all(w.all() for w in model.parameters())


def test_of_weights_that_are_left_minus_infinity_is_the_least_score_and_the_rate_is_exact() -> None:
    model = net()
    model[0].weight.data[0] = 0  # before anything is pruned
    method = Pruner(
        Returns(lambda s: {name: x.log() for name, x in s.items()}), Weight(), Global(), Rounds(0.75, n=3, start=0.0)
    )
    method.attach(model)
    for step in range(10):  # log 0 is -inf from the second pruning on
        method.update(Progress(step, 10, 5))
    assert sum(int(w.count_nonzero()) for w in (model[0].weight, model[2].weight)) == 35


def test_a_pruner_of_no_network_names_the_remedy() -> None:
    with pytest.raises(ValueError, match="attach"):
        pruner(Returns(lambda s: s)).update(LAST)


@pytest.mark.parametrize("outputs", [torch.zeros(4, 1), torch.zeros(4), torch.zeros(4, 1, 8, 8), (torch.zeros(4, 3),)])
def test_what_cross_entropy_says_nothing_of_is_refused_with_the_remedy(outputs: Any) -> None:
    with pytest.raises(ValueError, match="give the network's own loss="):
        cross_entropy(outputs, torch.zeros(4))


@pytest.mark.parametrize("targets", [torch.tensor([0, 2, 1, 1]), torch.full((4, 3), 1 / 3), torch.eye(3)[[0, 2, 1, 1]]])
def test_cross_entropy_of_classes_and_of_probabilities_is_torchs(targets: Tensor) -> None:
    outputs = torch.randn(4, 3)
    assert cross_entropy(outputs, targets) == F.cross_entropy(outputs, targets)


@pytest.mark.parametrize("targets", [torch.randn(4, 3), torch.ones(4, 3), torch.zeros(4, 3)])
def test_numbers_are_no_probabilities(targets: Tensor) -> None:
    with pytest.raises(ValueError, match="targets .* are numbers, neither classes nor their probabilities"):
        cross_entropy(torch.randn(4, 3), targets)


class Regression(nn.Module):
    """One output, as a pair with something else."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return self.layer(x), "more"


def test_a_network_of_any_outputs_is_scored_by_its_own_loss() -> None:
    model, method = Regression(), pruner(Taylor())
    x, y = torch.randn(16, 8), torch.randn(16, 1)
    method.attach(model, draw=lambda count, _: [(x, y)] * count, loss=lambda out, target: F.mse_loss(out[0], target))
    method.update(LAST)
    slope = torch.autograd.grad(F.mse_loss(x @ model.layer.weight.T + model.layer.bias, y), model.layer.weight)[0]
    best = (slope * model.layer.weight).abs().argsort(descending=True)[0, :4]
    assert sorted(best.tolist()) == method.masks["layer.weight"][0].nonzero().flatten().tolist()


class Pair:
    """Somebody's batch."""

    def __iter__(self) -> Iterator[Any]:
        yield from (torch.ones(2, 8), None)


def test_whatever_has_two_parts_is_a_pair() -> None:
    method = pruner(Taylor())
    method.attach(model := nn.Linear(8, 2), draw=lambda count, _: [Pair()], loss=lambda out, _: out.square().sum())
    method.update(LAST)
    assert int(model.weight.count_nonzero()) == 8


@pytest.mark.parametrize("batch", [{"x": torch.zeros(2, 8)}, (torch.zeros(2, 8),) * 3, torch.zeros(2, 8)])
def test_a_batch_that_is_no_pair_is_refused_with_the_remedy(batch: Any) -> None:
    method = pruner(Taylor())
    method.attach(nn.Linear(8, 2), draw=lambda count, _: [batch] * count)
    with pytest.raises(ValueError, match=r"scoring takes \(inputs, targets\).*scoring_batches"):
        method.update(LAST)


def test_a_temperature_divides_a_tensor_or_says_so() -> None:
    method = pruner(GraSP(batches=1))
    x, y = torch.randn(16, 8), torch.randn(16, 1)
    method.attach(Regression(), draw=lambda *_: [(x, y)], loss=lambda out, target: F.mse_loss(out[0], target))
    with pytest.raises(ValueError, match="returns a tuple, a temperature divides a tensor"):
        method.update(LAST)


def test_a_loss_without_a_gradient_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    method = Pruner(Taylor(), Weight(), Global(), Rounds(rate=0.5, n=3, start=0.0))
    method.attach(
        net(), draw=lambda count, _: [(torch.zeros(2, 3, 4, 4), None)] * count, loss=lambda out, _: 0 * out.sum()
    )
    for step in range(10):
        method.update(Progress(step, 10, 5))
    assert caplog.text.count("Taylor: all scores are 0") == 1


def test_the_look_before_the_first_step_asks_nothing_of_other_ranks() -> None:
    asked: list[object] = []
    method, batch = pruner(Taylor()), (torch.ones(2, 8), torch.tensor([0, 1]))
    method.attach(nn.Linear(8, 2), draw=lambda count, _: [batch] * count, average=asked.append)
    method.check_scores(batch)
    assert not asked
    method.update(LAST)
    assert asked
