"""Widths in multiples: by hand and brute force, on ramps, with budgets, and what no width can meet."""

import logging
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from small_nets import dense, mobile, narrow_vgg, option_a
from torch import Tensor, nn

from prunelab.channels import stopwatch
from prunelab.channels.budget import Budget
from prunelab.channels.rounding import Rounding
from prunelab.channels.surgery import shrink
from prunelab.channels.units import Filter, PrunableStructure
from prunelab.core.allocation import Allocation, Explicit, Global, Uniform
from prunelab.core.dry_run import dry_run
from prunelab.core.granularity import Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic
from prunelab.core.time import Progress
from prunelab.criteria.norm import Norm
from prunelab.measure.profiler import network_cost
from prunelab.models.cifar_resnet import resnet8

IMAGES = torch.zeros(2, 3, 32, 32)
Build = Callable[[], nn.Module]


def rounding(to: int, units: int, *channels: int) -> Rounding:
    """One group, `g`; a unit has so many channels on each axis."""
    return Rounding(to, {"g": torch.zeros(units, dtype=torch.long)}, torch.tensor(channels).double()[:, None])


def left(rule: Callable[..., dict[str, Tensor]], kept: list[bool], score: list[float]) -> list[int]:
    return rule({"g": torch.tensor(score)}, {"g": torch.tensor(kept)})["g"].nonzero().flatten().tolist()


SCORES = [1.0, 8.0, 3.0, 7.0, 2.0, 6.0, 5.0, 4.0]


@pytest.mark.parametrize(
    ("kept", "nearest", "more"),
    [
        ([1, 3, 5, 6, 7], [1, 3, 5, 6], list(range(8))),  # 5 of 8: the lowest goes; or the other three stay
        ([1, 3], [1, 3, 5, 6], [1, 3, 5, 6]),  # 0 is no width
        ([0, 1, 2, 3, 5, 6], list(range(8)), list(range(8))),  # 6 is as far from 4 as from 8
        ([0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]),  # what is kept need not be the best
    ],
)
def test_a_group_of_eight_in_fours_by_hand(kept: list[int], nearest: list[int], more: list[int]) -> None:
    mask = [i in kept for i in range(8)]
    assert left(rounding(4, 8, 1).nearest, mask, SCORES) == nearest
    assert left(rounding(4, 8, 1).more, mask, SCORES) == more


def test_removed_units_do_not_come_back() -> None:
    score = [-torch.inf if i in (0, 2, 4) else s for i, s in enumerate(SCORES)]
    mask = [i in (1, 3, 5, 6, 7) for i in range(8)]
    assert left(rounding(4, 8, 1).nearest, mask, score) == [1, 3, 5, 6]
    assert left(rounding(4, 8, 1).more, mask, score) == [1, 3, 5, 6, 7]  # all that are left


def test_the_kernel_counts_channels_not_units() -> None:
    in_pairs = rounding(8, 8, 2, 4)  # two channels in one layer, four in another
    mask = [i in (1, 3, 5) for i in range(8)]
    assert left(in_pairs.nearest, mask, SCORES) == [1, 3, 5, 6]
    assert in_pairs.step("g", torch.tensor(SCORES), torch.tensor(mask), remove=False) == [6]
    assert in_pairs.step("g", torch.tensor(SCORES), torch.tensor(mask), remove=True) is None
    whole = torch.ones(8, dtype=torch.bool)
    assert in_pairs.step("g", torch.tensor(SCORES), whole, remove=True) == [7, 2, 4, 0]


@pytest.mark.parametrize("seed", range(20))
def test_every_width_is_the_nearest_that_brute_force_finds(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    kinds, per = torch.randint(3, (9,), generator=g), torch.randint(1, 4, (2, 3), generator=g).double()
    score, mask = torch.rand(9, generator=g), torch.rand(9, generator=g) < 0.6
    order = [*sorted(range(9), key=lambda i: (not mask[i], -score[i]))]
    fits = [n for n in range(1, 10) if all(sum(per[a, kinds[i]] for i in order[:n]) % 3 == 0 for a in (0, 1))]
    kept = Rounding(3, {"g": kinds}, per).nearest({"g": score}, {"g": mask})["g"]
    count = int(mask.count_nonzero())
    wanted = min(fits, key=lambda n: (abs(n - count), -n)) if fits and count < 9 else 9
    assert kept.nonzero().flatten().tolist() == sorted(order[:wanted])


def made(build: Build, allocation: Allocation, rate: float, of: str, to: int = 8) -> Pruner:
    torch.manual_seed(0)
    schedule = Cubic(rate=rate, start=0, end=0.5, every=0.1)
    pruner = Pruner(Norm(p=1), Filter(), allocation, schedule, budget=Budget(of, round_to=to))
    pruner.attach(build(), IMAGES)
    return pruner


def pruned_on_a_ramp(pruner: Pruner) -> None:
    """While the weights change."""
    g, net = torch.Generator().manual_seed(0), pruner._net
    assert net is not None
    for step in range(0, 60, 10):
        before = dict(pruner.keep)
        pruner.update(Progress(step, 100, 10))
        assert not any((kept & ~before[name]).any() for name, kept in pruner.keep.items() if before)
        for p in net.parameters():
            p.data += 0.02 * torch.randn(p.shape, generator=g)
        pruner.apply()


@pytest.mark.parametrize("of", ["units", "macs", "params"])
@pytest.mark.parametrize("build", [option_a, narrow_vgg, mobile])
def test_a_ramp_ends_in_widths_of_eight_at_the_rate(build: Build, of: str) -> None:
    pruner = made(build, Uniform(), 0.5, of)
    dry_run(pruner, 0.5)  # refuses nothing
    pruned_on_a_ramp(pruner)
    assert pruner.attained == pytest.approx(0.5, abs=0.01)
    net, structure = deepcopy(pruner._net), pruner.granularity
    assert net is not None
    assert isinstance(structure, PrunableStructure)
    whole = {maker: len(net.get_parameter(maker)) for maker in structure.makers}
    cost = network_cost(net, IMAGES)
    shrink(net, structure.plan(pruner.keep))
    if of != "units":
        small = network_cost(net, IMAGES)
        assert pruner.attained == pytest.approx(1 - getattr(small, of) / getattr(cost, of))
    for maker, units in whole.items():
        assert len(net.get_parameter(maker)) % 8 == 0 or len(net.get_parameter(maker)) == units < 8


def test_a_width_that_is_no_multiple_becomes_one() -> None:
    pruner = made(dense, Uniform(), 0.55, "macs")  # layers have 12 channels
    dry_run(pruner, 0.55)
    pruned_on_a_ramp(pruner)
    assert {int(kept.sum()) for kept in pruner.keep.values() if len(kept) == 12} == {8}
    assert {int(kept.sum()) % 8 for kept in pruner.keep.values()} == {0}
    assert pruner.attained == pytest.approx(0.55, abs=0.01)


def test_a_global_threshold_is_rounded_too() -> None:
    pruner = made(option_a, Global(), 0.6, "macs")
    pruned_on_a_ramp(pruner)
    assert pruner.attained == pytest.approx(0.6, abs=0.01)
    assert {int(kept.sum()) % 8 for kept in pruner.keep.values()} == {0}


def test_what_rounding_changes_is_told_and_travels() -> None:
    pruner = made(resnet8, Uniform(), 0.6, "units")
    pruned_on_a_ramp(pruner)
    uniform = {16: 6, 32: 13, 64: 26}  # n - round(0.6 n)
    for name, kept in pruner.keep.items():
        assert pruner.rounded[name] == (uniform[len(kept)], int(kept.sum()))
    again = made(resnet8, Uniform(), 0.6, "units")
    again.load_state_dict(pruner.state_dict())
    assert again.rounded == pruner.rounded
    again.load_state_dict({key: value for key, value in pruner.state_dict().items() if key != "rounded"})
    assert again.rounded == {}


def test_rates_by_pattern_are_rounded_one_by_one() -> None:
    pruner = made(resnet8, Explicit({"layer3.0.conv1.weight": 0.7}, 0.5), 0.5, "units")
    pruned_on_a_ramp(pruner)
    assert int(pruner.keep["layer3.0.conv1.weight"].sum()) == 16  # of 64, 19 without rounding
    assert int(pruner.keep["layer2.0.conv1.weight"].sum()) == 16


def test_rate_zero_removes_nothing_where_no_width_is_a_multiple() -> None:
    pruner = made(resnet8, Uniform(), 0.5, "macs", to=6)
    assert all(kept.all() for kept in pruner.masks_at(0.0).values())


def test_a_rate_that_no_width_meets_is_refused_with_one_that_can_be_asked_for() -> None:
    with pytest.raises(
        ValueError, match=r"rate=0.3 of units: .*round_to=8 it comes to 0.3182; ask for that"
    ) as refused:
        dry_run(made(resnet8, Uniform(), 0.3, "units"), 0.3)
    nearest = float(str(refused.value).split("comes to ")[1].split(";")[0])
    dry_run(made(resnet8, Uniform(), nearest, "units"), nearest)
    with pytest.raises(ValueError, match=r"at most 0.7272 can be removed, where each group keeps 8 channels"):
        dry_run(made(resnet8, Uniform(), 0.8, "units"), 0.8)  # 128 of 176: each keeps 8


def test_a_layer_that_is_too_narrow_stays_whole_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        pruner = made(resnet8, Uniform(), 0.18, "units", to=32)
    assert "no smaller width is a multiple of round_to=32: conv1.weight (16 units)" in caplog.text
    pruned_on_a_ramp(pruner)
    assert {len(kept): int(kept.sum()) for kept in pruner.keep.values()} == {16: 16, 32: 32, 64: 32}


def test_networks_that_are_timed_have_rounded_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = []

    def layer_seconds(nets: list[nn.Module], *_: object) -> list[dict[str, float]]:  # as long as it has elements
        timed.extend(len(net.get_parameter("layer3.0.conv1.weight")) for net in nets)
        return [{"": 0.0} | {name: float(p.numel()) for name, p in net.named_parameters()} for net in nets]

    monkeypatch.setattr(stopwatch, "layer_seconds", layer_seconds)
    pruner = made(resnet8, Uniform(), 0.6, "latency")
    pruned_on_a_ramp(pruner)
    assert pruner.attained == pytest.approx(0.6, abs=0.05)
    assert {width % 8 for width in timed} == {0}
    assert {int(kept.sum()) % 8 for kept in pruner.keep.values()} == {0}
    assert pruner.rounded
    with pytest.raises(ValueError, match=r"rate=0.95 of latency: at most 0.9151 can be removed, where"):
        dry_run(made(resnet8, Uniform(), 0.95, "latency"), 0.95, timed=True)


def test_what_cannot_be_rounded_is_refused() -> None:
    with pytest.raises(ValueError, match=r"round_to=65: no layer has as many channels, .* has 64"):
        made(resnet8, Uniform(), 0.5, "units", to=65)
    with pytest.raises(ValueError, match="round_to=0: expected a whole number of at least 1"):
        made(resnet8, Uniform(), 0.5, "units", to=0)
    with pytest.raises(ValueError, match="round_to=8: channels are rounded, units are Weights: use prune/gran"):
        Budget(round_to=8).bind(resnet8(), Weight(), IMAGES)
