"""Regrowth: exchanges against brute force, and under a real optimizer."""

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pretended_device import PretendedDevice
from torch import Tensor, nn

from prunelab.channels.units import Filter
from prunelab.core.allocation import ERK, Uniform
from prunelab.core.context import Batch, Context
from prunelab.core.criterion import Criterion
from prunelab.core.dry_run import check_run
from prunelab.core.granularity import NM, Granularity, Weight
from prunelab.core.pruner import Pruner
from prunelab.core.regrow import Regrow
from prunelab.core.schedule import Cubic, Rounds
from prunelab.core.time import Progress
from prunelab.core.types import Scores
from prunelab.criteria.gradient import Gradient
from prunelab.criteria.movement import Movement
from prunelab.criteria.norm import Norm
from prunelab.criteria.random import Random


def at(step: int) -> Progress:
    return Progress(step, total=100, epoch=10)


def rigl(**more: Any) -> Regrow:
    return Regrow(Norm(), Gradient(), **({"every": "10it"} | more))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))


def draw(count: int, generator: torch.Generator) -> list[Batch]:
    return [(torch.randn(20, 8, generator=generator), torch.arange(20) % 3) for _ in range(count)]


def pruner_with(regrow: Regrow, granularity: Granularity | None = None, **more: Any) -> Pruner:
    parts = {"schedule": Rounds(rate=0.7, start=0.0), "allocation": ERK(), "criterion": Random()} | more
    return Pruner(parts["criterion"], granularity or Weight(), parts["allocation"], parts["schedule"], regrow=regrow)


def test_exchanges_are_due_every_so_often_until_the_end_by_hand() -> None:
    due = {step: share for step in range(101) if (share := rigl(until="40it").due(at(step))) is not None}
    assert due == {
        10: pytest.approx(0.15 * (1 + math.sqrt(0.5))),
        20: pytest.approx(0.15),
        30: pytest.approx(0.15 * (1 - math.sqrt(0.5))),
    }
    assert [step for step in range(101) if rigl().due(at(step)) is not None] == [10, 20, 30, 40, 50, 60, 70]
    assert rigl(fraction=0.8, until="30it").due(at(10)) == pytest.approx(0.6)  # cos 60 degrees


def test_once_an_epoch_is_a_time_too() -> None:
    assert [step for step in range(101) if rigl(every="3ep").due(at(step)) is not None] == [30, 60]


def test_an_exchange_by_hand() -> None:
    keep = {"w": torch.tensor([True, True, True, True, False, False, False, False])}
    drop = {"w": torch.tensor([4.0, 1.0, 3.0, 2.0, 9.0, 9.0, 9.0, 9.0])}  # what is gone cannot survive
    grow = {"w": torch.tensor([9.0, 5.0, 9.0, 1.0, 2.0, 6.0, 2.0, 2.0])}  # what has survived cannot grow
    after = rigl().exchange(keep, drop, grow, 0.5)["w"]
    assert after.tolist() == [True, True, True, False, False, True, False, False]  # 1 dropped and regrown at once
    assert keep["w"].tolist() == [True] * 4 + [False] * 4
    equal = rigl().exchange(keep, drop, {"w": torch.ones(8)}, 0.5)["w"]
    assert equal.tolist() == [True, True, True, True, False, False, False, False]  # of equals the first
    assert rigl().exchange(keep, drop, grow, 0.2)["w"].tolist() == keep["w"].tolist()  # less than one weight


def test_grown_have_the_largest_dense_gradient_and_dropped_the_smallest_magnitude() -> None:
    model, pruner = net(), pruner_with(rigl())
    pruner.attach(model, draw=draw)
    pruner.update(at(0))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    alive = {name: mask.flatten().tolist() for name, mask in pruner.masks.items()}
    dense = copy.deepcopy(model)  # on the batch that the exchange will draw
    stream = torch.Generator()
    stream.set_state(pruner.state_dict()["generator"])
    inputs, targets = draw(1, stream)[0]
    F.cross_entropy(dense(inputs), targets).backward()
    assert pruner.update(at(10))
    share = 0.15 * (1 + math.cos(math.pi * 10 / 75))
    exchanged = 0
    for name, mask in pruner.masks.items():
        size, slope = before[name].abs().flatten().tolist(), dense.get_parameter(name).grad.abs().flatten().tolist()
        living = sorted((i for i, a in enumerate(alive[name]) if a), key=lambda i: size[i])
        moved = math.floor(share * len(living))
        survivors = set(living[moved:])
        others = sorted((i for i in range(len(size)) if i not in survivors), key=lambda i: -slope[i])
        assert set(mask.flatten().nonzero().flatten().tolist()) == survivors | set(others[:moved])
        exchanged += moved
    assert exchanged > 10


@dataclass(frozen=True)
class Fixed(Criterion):
    """Scores that are given."""

    scores: Scores = field(default_factory=dict)

    def __call__(self, ctx: Context) -> Scores:
        return self.scores


OPTIMIZERS = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.01, amsgrad=True),
}


def moments(optimizer: torch.optim.Optimizer, param: Tensor) -> list[Tensor]:
    return [s for s in optimizer.state[param].values() if isinstance(s, Tensor) and s.shape == param.shape]


def step(model: nn.Module, pruner: Pruner, optimizer: torch.optim.Optimizer, number: int) -> None:
    """One of training, with the pruner's calls in the order of the callback's."""
    optimizer.zero_grad()
    inputs, targets = draw(1, torch.Generator().manual_seed(number))[0]
    F.cross_entropy(model(inputs), targets).backward()
    pruner.mask_gradients()
    optimizer.step()
    pruner.apply(optimizer)


@pytest.mark.parametrize("grow", [Gradient(), Random(), "dropped"])
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_what_grows_starts_at_zero_and_what_comes_back_at_once_goes_on(grow: Any, make: str) -> None:
    """Through whole exchanges of a training, with the optimizer's own momentum."""
    model = net()
    if grow == "dropped":  # the living ones score best, so the dropped ones come back at once
        grow = Norm()
    pruner = pruner_with(Regrow(Norm(), grow, every="5it"))
    optimizer = OPTIMIZERS[make](model.parameters())
    pruner.attach(model, draw=draw)
    pruner.update(at(0))
    pruner.apply(optimizer)
    counts = pruner.unit_counts()
    grown_in_all = regrown_in_all = moving = 0
    for number in range(40):
        masks, new = dict(pruner.masks), []
        before = {name: model.get_parameter(name).detach().clone() for name in masks}
        old = {name: [m.clone() for m in moments(optimizer, model.get_parameter(name))] for name in masks}
        changed = pruner.update(at(number))
        assert changed == (number > 0 and number % 5 == 0)
        if changed:
            pruner.apply(optimizer)
            assert pruner.unit_counts() == counts
            for name, mask in pruner.masks.items():
                param = model.get_parameter(name)
                grown, stayed, dropped = mask & ~masks[name], mask & masks[name], masks[name] & ~mask
                assert not param[grown].any()
                assert not param[dropped].any()
                assert torch.equal(param[stayed], before[name][stayed])
                now = moments(optimizer, param)
                assert len(now) == (1 if make == "sgd" else 3)
                for moment, then in zip(now, old[name], strict=True):
                    assert not moment[~mask].any()
                    assert not moment[grown].any()
                    assert torch.equal(moment[stayed], then[stayed])
                    assert moment[stayed].any()
                share = pruner.regrow.due(at(number))
                moved = int(share * int(masks[name].sum()))
                assert int(grown.sum()) <= moved
                new.append((param, grown))
                grown_in_all += int(grown.sum())
                regrown_in_all += moved - int(grown.sum())
        step(model, pruner, optimizer, number)
        for name, mask in pruner.masks.items():
            assert not model.get_parameter(name)[~mask].any()
        moving += sum(int(param[grown].count_nonzero()) for param, grown in new)
    assert pruner.rate == 0.7
    assert moving > 0.7 * grown_in_all or grown_in_all == 0  # some lead into a unit that leads nowhere
    if isinstance(grow, Norm):
        assert (grown_in_all, regrown_in_all > 20) == (0, True)
    else:
        assert grown_in_all > 20


def test_asked_twice_at_one_step_it_exchanges_once() -> None:
    model, pruner = net(), pruner_with(Regrow(Norm(), Random(), every="10it"))
    pruner.attach(model)
    pruner.update(at(0))
    assert not pruner.update(at(9))
    assert pruner.update(at(10))
    masks = dict(pruner.masks)
    assert not pruner.update(at(10))
    resumed = pruner_with(Regrow(Norm(), Random(), every="10it"))
    resumed.attach(model)
    resumed.load_state_dict(pruner.state_dict())
    assert not resumed.update(at(10))
    assert all(torch.equal(mask, masks[name]) for name, mask in resumed.masks.items())
    for other in (pruner, resumed):
        assert other.update(at(20))
    assert all(torch.equal(mask, resumed.masks[name]) for name, mask in pruner.masks.items())
    assert not all(torch.equal(mask, masks[name]) for name, mask in pruner.masks.items())


def test_nothing_is_exchanged_before_the_first_pruning_or_at_rate_zero() -> None:
    for schedule in (Rounds(rate=0.5, start=0.5), Rounds(rate=0.0, start=0.0)):
        pruner = pruner_with(rigl(), schedule=schedule)
        pruner.attach(net(), draw=draw)
        assert not any(pruner.update(at(number)) for number in range(50))


def test_while_the_rate_rises_it_is_met_exactly_between_exchanges() -> None:
    pruner = pruner_with(rigl(every="5it"), schedule=Cubic(rate=0.8, end=0.5, every="10it"), allocation=Uniform())
    pruner.attach(net(), draw=draw)
    exchanged = 0
    for number in range(75):
        rate = pruner.rate
        exchanged += pruner.update(at(number)) and pruner.rate == rate
        if pruner.keep:
            assert all(gone == round(pruner.rate * n) for gone, n in pruner.unit_counts().values())
    assert pruner.rate == 0.8
    assert exchanged > 5


@pytest.mark.parametrize("granularity", [Filter(), NM()])
def test_units_larger_than_a_weight_do_not_grow(granularity: Granularity) -> None:
    with pytest.raises(ValueError, match="regrow: only single weights come back from 0"):
        pruner_with(rigl(), granularity).attach(nn.Sequential(nn.Conv2d(4, 4, 3)))


@pytest.mark.parametrize("every", ["75it", "80it", "8ep", "200it"])
def test_a_run_without_a_single_exchange_is_refused(every: str) -> None:
    pruner = pruner_with(rigl(every=every))
    pruner.attach(net(), draw=draw)
    with pytest.raises(ValueError, match=f"'{every}' is .*step.* raise epochs"):
        check_run(pruner, at(0))


def test_a_run_with_a_single_exchange_is_accepted() -> None:
    pruner = pruner_with(rigl(every="74it"))
    pruner.attach(net(), draw=draw)
    check_run(pruner, at(0))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"regrow.fraction={fraction}: expected a fraction in \(0, 1\]"):
        rigl(fraction=fraction).check(at(0))
    rigl(fraction=1.0).check(at(0))


@pytest.mark.parametrize("sick", ["drop", "grow"])
def test_nan_scores_are_refused_by_layer(sick: str) -> None:
    scores = {"fc": torch.ones(4), "conv": torch.ones(4)}
    nan = scores | {"conv": torch.tensor([1.0, 1.0, 1.0, torch.nan])}
    keep = {name: torch.tensor([True, True, False, False]) for name in scores}
    both = {"drop": scores, "grow": scores} | {sick: nan}
    with pytest.raises(ValueError, match="conv: its scores contain NaN"):
        rigl().exchange(keep, both["drop"], both["grow"], 0.5)


def test_an_exchange_is_scored_by_its_own_criteria() -> None:
    model = nn.Linear(6, 1, bias=False)
    model.weight.data = torch.tensor([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]])
    drop = Fixed({"weight": torch.tensor([[0.0, 1.0, 2.0, 9.0, 9.0, 9.0]])})
    grow = Fixed({"weight": torch.tensor([[1.0, 9.0, 9.0, 2.0, 3.0, 2.0]])})
    pruner = pruner_with(Regrow(drop, grow, fraction=0.5, every="1it"), criterion=Norm(), schedule=Rounds(0.5, start=0))
    pruner.attach(model)
    pruner.update(at(0))
    pruner.update(at(1))
    assert pruner.masks["weight"].tolist() == [[False, True, True, False, True, False]]
    assert model.weight.tolist() == [[0.0, 5.0, 4.0, 0.0, 0.0, 0.0]]


def test_what_its_criteria_look_at_is_asked_for() -> None:
    pruner = pruner_with(Regrow(Movement(), Gradient(batches=3)))
    assert pruner.batches == 3
    assert pruner.watches
    assert not pruner_with(rigl()).watches


def test_an_exchange_at_no_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="regrow.every='0it' is 0 steps: expected at least 1"):
        rigl(every="0it").check(at(0))


def test_scores_of_two_devices_are_exchanged_on_the_first() -> None:
    keep, drop, grow = torch.tensor([True, True, False]), torch.tensor([1.0, 2.0, 0.0]), torch.tensor([0.0, 0.0, 3.0])
    with PretendedDevice("mps"):
        after = Regrow(Norm(), Norm()).exchange({"w": keep}, {"w": drop}, {"w": grow.to("mps")}, 0.5)
        assert after["w"].tolist() == [False, True, True]


@pytest.mark.parametrize(("every", "until"), [("10it", 0.75), ("10it", 0.7), ("7it", 0.29), ("1it", 1.0)])
def test_exchanges_are_as_many_as_steps_at_which_one_is_due(every: str, until: float) -> None:
    regrow = rigl(every=every, until=until)
    assert regrow.exchanges(at(0)) == sum(regrow.due(at(step)) is not None for step in range(100))
