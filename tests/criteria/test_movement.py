"""Movement: summed by hand over three steps of SGD, and kept across a restart."""

import io

import pytest
import torch
from torch import nn

from prunelab.core.allocation import Global
from prunelab.core.context import Context
from prunelab.core.dry_run import check_run
from prunelab.core.granularity import Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.criteria.movement import Movement


def start() -> tuple[nn.Linear, Pruner]:
    net = nn.Linear(2, 1, bias=False)
    net.weight.data = torch.tensor([[32.0, -0.125]])
    pruner = Pruner(Movement(), Weight(), Global(), Rounds(rate=0.5))
    pruner.attach(net)
    return net, pruner


def train(net: nn.Linear, pruner: Pruner, steps: int) -> None:
    """Pulls the first weight to zero, and pushes the second away from it."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.25)
    for _ in range(steps):
        optimizer.zero_grad()
        (net.weight[0, 0] ** 2 + net.weight[0, 1]).backward()
        pruner.watch()
        optimizer.step()
        pruner.stepped()


def scores(net: nn.Linear, pruner: Pruner) -> list[float]:
    memory = pruner.state_dict()["memory"]
    return Movement()(Context(net, {"weight": net.weight}, torch.Generator(), memory=memory))["weight"][0].tolist()


# w: 32, 16, 8 (then 4) with slopes 64, 32, 16; and -1/8, -3/8, -5/8 (then -7/8) with slope 1
BY_HAND = [-(32.0 * 64 + 16 * 32 + 8 * 16), 0.125 + 0.375 + 0.625]


def test_three_steps_by_hand() -> None:
    net, pruner = start()
    assert pruner.watches
    train(net, pruner, 3)
    assert net.weight.tolist() == [[4.0, -0.875]]
    assert scores(net, pruner) == BY_HAND


def test_what_moves_to_zero_goes_though_it_is_the_larger() -> None:
    net, pruner = start()
    train(net, pruner, 3)
    pruner.update(Progress(50, total=100, epoch=10))
    assert net.weight.tolist() == [[0.0, -0.875]]


def test_a_step_that_did_not_happen_does_not_count() -> None:
    net, pruner = start()
    train(net, pruner, 2)
    net.weight.grad = torch.full((1, 2), torch.inf)
    pruner.watch()  # and a gradient scaler leaves the step out
    assert pruner.state_dict()["memory"]["weight"].isfinite().all()
    train(net, pruner, 1)
    assert scores(net, pruner) == BY_HAND


def test_the_sum_survives_a_restart() -> None:
    net, pruner = start()
    train(net, pruner, 2)
    file = io.BytesIO()
    torch.save([net.state_dict(), pruner.state_dict()], file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    net, pruner = start()
    net.load_state_dict(weights)
    pruner.load_state_dict(state)
    train(net, pruner, 1)
    assert scores(net, pruner) == BY_HAND


def test_two_pruners_that_took_up_one_state_do_not_add_to_each_others() -> None:
    net, pruner = start()
    train(net, pruner, 1)
    other, resumed = start()
    resumed.load_state_dict(pruner.state_dict())
    before = scores(net, pruner)
    train(other, resumed, 1)
    assert scores(net, pruner) == before


def test_a_pruner_attached_anew_remembers_nothing() -> None:
    net, pruner = start()
    train(net, pruner, 3)
    pruner.attach(net)
    assert pruner.state_dict()["memory"] == {}


def test_before_any_step_it_refuses_to_prune_by_position() -> None:
    _, pruner = start()
    with pytest.raises(ValueError, match="watched no step of training yet: prune later"):
        pruner.update(Progress(50, total=100, epoch=10))
    pruner.schedule = Rounds(rate=0.5, start=0.0)
    with pytest.raises(ValueError, match="seen none of it at step 0"):
        check_run(pruner, Progress(0, total=100, epoch=10))


def test_the_weights_that_are_watched_are_not_changed_and_the_memory_has_no_graph() -> None:
    net, pruner = start()
    (net.weight**2).sum().backward()
    weight, slope = net.weight.detach().clone(), net.weight.grad.clone()
    pruner.watch()
    pruner.stepped()
    assert torch.equal(net.weight, weight)
    assert torch.equal(net.weight.grad, slope)
    assert not pruner.state_dict()["memory"]["weight"].requires_grad


def test_a_weight_without_gradient_does_not_move() -> None:
    net, pruner = start()
    net.weight.grad = torch.zeros(1, 2)
    pruner.watch()
    pruner.stepped()
    assert scores(net, pruner) == [0.0, 0.0]
