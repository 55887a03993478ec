"""Granularities of single weights: each alone, or N of every M."""

import logging
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from prunelab.core.allocation import ERK, Allocation, Explicit, Global, Uniform
from prunelab.core.criterion import Criterion
from prunelab.core.dry_run import check_run
from prunelab.core.granularity import NM, Weight
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic, Rounds, Schedule
from prunelab.core.time import Progress
from prunelab.criteria.norm import Norm
from prunelab.criteria.random import Random


def test_single_weights_are_their_own_units() -> None:
    scores = {"w": torch.rand(2, 3)}
    assert Weight().reduce(scores) is scores
    assert Weight().expand(scores) is scores


def grouped(m: int) -> nn.Module:
    """Layers of very different magnitude, with inputs in groups of m."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(m, 2 * m, 3), nn.Conv2d(2 * m, 4, (1, 2)), nn.Conv1d(2 * m, 3, 1), nn.Linear(3 * m, 5)
    )
    net[0].weight.data *= 100
    return net


def pruner_of(m: int, rate: float, allocation: Allocation | None = None, indivisible: str = "dense") -> Pruner:
    schedule = Rounds(rate=rate, start=0.0)
    return Pruner(Norm(), NM(m, indivisible), allocation or Uniform(), schedule)


START = Progress(0, total=100, epoch=10)


def groups(tensor: Tensor, m: int) -> list[Tensor]:
    """By index, one at a time: m neighbours along the inputs for each output and place in the kernel."""
    flat = tensor.reshape(*tensor.shape[:2], -1)  # (out, in, places)
    outputs, inputs, places = flat.shape
    return [flat[o, i : i + m, k] for o in range(outputs) for k in range(places) for i in range(0, inputs, m)]


@pytest.mark.parametrize("allocation", [Uniform(), Global()])
@pytest.mark.parametrize(("m", "gone"), [(4, 1), (4, 2), (4, 3), (5, 2), (5, 4), (2, 1)])
def test_each_group_keeps_the_pattern_of_most_magnitude(m: int, gone: int, allocation: Allocation) -> None:
    net, pruner = grouped(m), pruner_of(m, gone / m, allocation)
    before = {name: p.detach().abs() for name, p in net.named_parameters()}
    pruner.attach(net)
    check_run(pruner, START)
    pruner.update(START)
    assert pruner.masks.keys() == {"0.weight", "1.weight", "2.weight", "3.weight"}
    for name, mask in pruner.masks.items():
        for magnitude, kept in zip(groups(before[name], m), groups(mask, m), strict=True):
            patterns = combinations(range(m), m - gone)  # all C(m, n)
            best = max(patterns, key=lambda kept: magnitude[list(kept)].sum().item())
            assert tuple(kept.nonzero().flatten().tolist()) == best


@pytest.mark.parametrize("criterion", [Norm(), Random()])
@pytest.mark.parametrize("allocation", [Uniform(), Global()])
@pytest.mark.parametrize(("schedule", "passes"), [
    (Rounds(rate=0.5, n=3, start=0.1), 1), (Rounds(rate=0.5, n=1, start=0.1), 5), (Cubic(rate=0.5, every="10it"), 1),
])  # fmt: skip
def test_each_group_has_its_n_whatever_the_way_there(
    criterion: Criterion, allocation: Allocation, schedule: Schedule, passes: int
) -> None:
    net, pruner = grouped(4), Pruner(criterion, NM(4), allocation, schedule, passes=passes)
    pruner.attach(net)
    gone = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in prunable_weights(net).items()}
    for step in range(0, 101, 5):
        pruner.update(Progress(step, total=100, epoch=10))
        for name, mask in pruner.masks.items():
            assert not (gone[name] & mask).any()
            gone[name] = ~mask
    for mask in pruner.masks.values():
        assert {int(group.sum()) for group in groups(mask, 4)} == {2}


def test_of_equal_weights_in_a_group_the_first_are_kept() -> None:
    net, pruner = nn.Linear(8, 2), pruner_of(4, 0.5)
    nn.init.ones_(net.weight)
    pruner.attach(net)
    pruner.update(START)
    assert net.weight.tolist() == [[1.0, 1.0, 0.0, 0.0] * 2] * 2


def test_the_rank_in_its_group_is_the_score() -> None:
    nm = NM(4).bind(nn.Linear(4, 2), {"w": torch.zeros(2, 4)}, None)
    ranks = nm.reduce({"w": torch.tensor([[0.3, -5.0, 9.0, 0.3], [1.0, 2.0, 3.0, 4.0]])})
    assert ranks["w"].tolist() == [[2.0, 0.0, 3.0, 1.0], [0.0, 1.0, 2.0, 3.0]]
    gone = -torch.inf  # stays so, whatever ranks the others have
    assert nm.reduce({"w": torch.tensor([[gone, -5.0, 9.0, gone]])})["w"].tolist() == [[gone, 2.0, 3.0, gone]]


def ragged() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1), nn.Linear(6, 8))


def test_layers_that_groups_do_not_divide_stay_dense_and_are_named(caplog: pytest.LogCaptureFixture) -> None:
    net, pruner = ragged(), pruner_of(4, 0.75)
    before = [p.detach().clone() for p in net.parameters()]
    with caplog.at_level(logging.WARNING):
        pruner.attach(net)
    assert "no multiple of m=4: 0.weight (3 inputs), 1.weight (1 inputs), 3.weight (6 inputs)" in caplog.text
    assert pruner.unit_counts() == {"2.weight": (0, 48)}
    pruner.update(START)
    assert pruner.unit_counts() == {"2.weight": (36, 48)}
    changed = [name for (name, p), old in zip(net.named_parameters(), before, strict=True) if not torch.equal(p, old)]
    assert changed == ["2.weight"]


def test_layers_that_groups_do_not_divide_are_an_error_when_asked_for() -> None:
    with pytest.raises(ValueError, match=r"m=4 do not divide the inputs of 0.weight \(3 inputs\), 1.weight"):
        pruner_of(4, 0.5, indivisible="refuse").attach(ragged())
    pruner_of(4, 0.5, indivisible="refuse").attach(grouped(4))


def test_a_net_without_any_group_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"m=7 do not divide the inputs of 0.weight \(3 inputs\)"):
        pruner_of(7, 3 / 7).attach(ragged())


@pytest.mark.parametrize(("m", "indivisible"), [(1, "dense"), (0, "dense"), (4, "skip")])
def test_groups_of_less_than_two_and_unknown_choices_are_refused(m: int, indivisible: str) -> None:
    with pytest.raises(ValueError, match=f"m={m}, indivisible='{indivisible}': expected m >= 2 and"):
        pruner_of(m, 0.5, indivisible=indivisible).attach(grouped(4))


@pytest.mark.parametrize(("m", "rate", "fit"), [(4, 0.6, "0.25, 0.5, 0.75"), (5, 0.5, "0.2, 0.4, 0.6, 0.8")])
def test_a_rate_that_groups_cannot_meet_is_refused_with_those_that_fit(m: int, rate: float, fit: str) -> None:
    pruner = pruner_of(m, rate)
    pruner.attach(grouped(m))
    with pytest.raises(ValueError, match=f"rate={rate}: groups of m={m} weights allow {fit}$"):
        check_run(pruner, START)


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.6, 0.8, 1 - 0.8])
def test_rates_that_groups_of_five_can_meet_are_accepted(rate: float) -> None:
    pruner = pruner_of(5, rate)
    pruner.attach(grouped(5))
    check_run(pruner, START)


def test_ranks_do_not_hide_that_training_has_diverged() -> None:
    net, pruner = grouped(4), pruner_of(4, 0.5)
    pruner.attach(net)
    net[1].weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="1.weight: its scores contain NaN"):
        pruner.update(START)


@pytest.mark.parametrize("allocation", [ERK(), Explicit({}, 0.5)])
def test_groups_refuse_an_allocation_that_takes_more_from_some_layers(allocation) -> None:
    pruner = Pruner(Norm(), NM(m=4), allocation, Rounds(rate=0.5, start=0.0))
    with pytest.raises(ValueError, match=f"{type(allocation).__name__} does not: use prune/allocation=uniform"):
        pruner.attach(nn.Linear(8, 8))
