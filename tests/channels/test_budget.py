"""Costs of masks without surgery, exactly, and budgets that are met."""

import io
import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cache
from itertools import product

import lightning as L
import pytest
import torch
from small_nets import dense, mobile, narrow_vgg, option_a
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from toy_parts import Pairs, Positive

from prunelab.callbacks.pruning import Pruning
from prunelab.channels import stopwatch
from prunelab.channels.blocks import Block
from prunelab.channels.budget import Budget
from prunelab.channels.steps import Steps
from prunelab.channels.surgery import shrink
from prunelab.channels.tracing.graph import ChannelGraph, Group
from prunelab.channels.units import Channels, Filter, Neuron, PrunableStructure
from prunelab.core.allocation import ERK, Allocation, Explicit, Global, Uniform, Zeros
from prunelab.core.granularity import NM, Granularity, Weight
from prunelab.core.isomorphic import Isomorphic
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.types import Masks, Scores
from prunelab.criteria.norm import Norm
from prunelab.measure.macs import costs_by_weight
from prunelab.measure.profiler import network_cost
from prunelab.models.cifar_resnet import resnet8, resnet20
from prunelab.models.keras_cnn import KerasCNN

IMAGES = torch.zeros(2, 3, 32, 32)
Build = Callable[[], nn.Module]
Units = type[Granularity]


class Odd(nn.Module):
    """Grouped and depthwise convolutions, a layer that runs twice, and channels that are read more than once."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.grouped = nn.Conv2d(8, 12, 3, groups=4)
        self.deep = nn.Conv2d(12, 12, 3, groups=12)
        self.norm = nn.BatchNorm2d(12)
        self.last = nn.Conv2d(12 + 6, 5, 1)
        self.fc1, self.fc2 = nn.Linear(5 * 26 * 26, 7), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.deep(self.grouped(self.b(torch.relu(self.b(self.a(x)))))))
        return self.fc2(torch.relu(self.fc1(self.last(torch.cat((x, x[:, : x.shape[1] // 2]), 1)).flatten(1))))


@cache
def bound(build: Build, units: Units) -> tuple[nn.Module, Granularity]:
    torch.manual_seed(0)
    net = build()
    return net, units().bind(net, prunable_weights(net), IMAGES)


@cache
def made(build: Build, units: Units, of: str) -> Budget:
    return Budget(of).bind(*bound(build, units), IMAGES)


def scores(build: Build, units: Units) -> Scores:
    net, granularity = bound(build, units)
    return granularity.reduce({name: w.detach().abs() for name, w in prunable_weights(net).items()})


@cache
def prices(build: Build, of: str) -> Mapping[str, float]:
    """Of each weight of a parameter."""
    net = build()
    macs = costs_by_weight(net, IMAGES)
    return {name: macs.get(name, 0) / p.numel() if of == "macs" else 1 for name, p in net.named_parameters()}


def counted(build: Build, units: Units, of: str, keep: Masks) -> float:
    """The fraction that is gone, by counting what the masks of all parameters leave."""
    net, granularity = bound(build, units)
    masks, price = granularity.expand(keep), prices(build, of)
    gone = sum(price.get(name, 0) * (mask.numel() - int(mask.count_nonzero())) for name, mask in masks.items())
    return gone / sum(price.get(name, 0) * p.numel() for name, p in net.named_parameters())


def at_random(units: Scores, seed: int) -> Masks:
    g = torch.Generator().manual_seed(seed)
    keep = {name: torch.rand(score.shape, generator=g) < torch.rand((), generator=g) for name, score in units.items()}
    for kept in keep.values():
        kept.view(-1)[0] = True
    return keep


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("build", "units"),
    [(option_a, Filter), (dense, Filter), (mobile, Filter), (KerasCNN, Neuron), (Odd, Filter), (Odd, Channels)],
)
def test_what_masks_leave_is_what_surgery_leaves(build: Build, units: Units, seed: int) -> None:
    net, granularity = bound(build, units)
    assert isinstance(granularity, PrunableStructure)
    keep = at_random(scores(build, units), seed)
    small = deepcopy(net)
    shrink(small, granularity.plan(keep))
    for of in ("params", "macs"):
        dense, left = (getattr(network_cost(n, IMAGES), of) for n in (net, small))
        assert made(build, units, of).attained(keep) == pytest.approx(1 - left / dense, abs=1e-12)
    assert made(build, units, "bops").attained(keep) == made(build, units, "macs").attained(keep)


def test_units_of_a_group_may_have_more_or_fewer_channels() -> None:
    group, net = Group("weight", "linear", ("weight",), torch.arange(3)), nn.Linear(4, 6)
    places = {("weight", 0): torch.tensor([0, 1, 1, 2, -1, -1]), ("bias", 0): torch.tensor([0, 1, 1, 2, -1, -1])}
    channels = Channels(
        graph=ChannelGraph((group,), places, {}, {}),
        groups=(group,),
        shapes={name: p.shape for name, p in net.named_parameters()},
    )
    params = Budget("params").bind(net, channels, None)
    for kept, gone in (([True, False, True], 10), ([False, True, True], 5), ([False, False, True], 15)):
        assert params.attained({"weight": torch.tensor(kept)}) == pytest.approx(gone / 30)
    assert params.reachable == pytest.approx(15 / 30)


@pytest.mark.parametrize("of", ["params", "macs"])
@pytest.mark.parametrize(("build", "units"), [(resnet8, Weight), (resnet20, Block)])
def test_what_masks_leave_of_weights_and_blocks(build: Build, units: Units, of: str) -> None:
    keep = at_random(scores(build, units), 0)
    attained = made(build, units, of).attained(keep)
    assert attained == pytest.approx(counted(build, units, of, keep), abs=1e-12)


def test_blocks_that_are_cut_out_leave_what_was_told() -> None:
    net, granularity = bound(resnet20, Block)
    assert isinstance(granularity, Block)
    keep = at_random(scores(resnet20, Block), 1)
    small = deepcopy(net)
    shrink(small, granularity.plan(keep))
    dense, left = (network_cost(n, IMAGES) for n in (net, small))
    assert 0 < made(resnet20, Block, "macs").attained(keep) == pytest.approx(1 - left.macs / dense.macs, abs=1e-12)


@pytest.mark.parametrize("rate", [0.3, 0.8])
@pytest.mark.parametrize("allocation", [Uniform(), Global()], ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("of", ["params", "macs"])
@pytest.mark.parametrize("build", [option_a, narrow_vgg, dense, mobile, KerasCNN])
def test_a_budget_is_met_within_a_percent_by_the_lowest_of_each_group(
    build: Build, of: str, allocation: Allocation, rate: float
) -> None:
    units = scores(build, Filter)
    keep = made(build, Filter, of)(allocation, units, rate)
    assert counted(build, Filter, of, keep) == pytest.approx(rate, abs=0.01)
    for name, kept in keep.items():
        assert kept.shape == units[name].shape
        assert kept.any()
        assert kept.all() or units[name][kept].min() >= units[name][~kept].max()


@pytest.mark.parametrize("allocation", [Uniform(), Global(), ERK()], ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("of", ["params", "macs"])
def test_single_weights_meet_it_to_a_ten_thousandth(of: str, allocation: Allocation) -> None:
    keep = made(resnet8, Weight, of)(allocation, scores(resnet8, Weight), 0.7)
    assert counted(resnet8, Weight, of, keep) == pytest.approx(0.7, abs=1e-4)


def test_one_threshold_parts_what_goes_from_what_stays_but_for_a_few() -> None:
    units = scores(resnet8, Weight)
    keep = made(resnet8, Weight, "macs")(Global(), units, 0.7)
    flat, kept = (torch.cat([t.flatten() for t in d.values()]) for d in (units, keep))
    threshold = flat.sort().values[int((~kept).sum())]
    assert int((kept & (flat < threshold)).sum()) <= 20


def test_a_uniform_budget_stays_near_one_rate_for_all() -> None:
    keep = made(option_a, Filter, "macs")(Uniform(), scores(option_a, Filter), 0.5)
    gone = [1 - float(kept.float().mean()) for kept in keep.values()]
    assert max(gone) - min(gone) <= 2 / 16  # of the narrowest layers one unit more or less, each way


def test_the_units_of_a_budget_are_those_of_the_allocation() -> None:
    units = scores(resnet8, Filter)
    for of in ("units", "filters"):
        keep = made(resnet8, Filter, of)(Global(), units, 0.4)
        assert all(torch.equal(kept, Global()(units, 0.4)[name]) for name, kept in keep.items())
        assert made(resnet8, Filter, of).attained(keep) == pytest.approx(0.4, abs=0.005)


@pytest.mark.parametrize("of", ["params", "macs"])
def test_rate_zero_removes_nothing(of: str) -> None:
    keep = made(resnet8, Filter, of)(Global(), scores(resnet8, Filter), 0.0)
    assert all(kept.all() for kept in keep.values())


def test_what_is_gone_stays_gone_whatever_the_scores_become() -> None:
    units, ramp = scores(option_a, Filter), made(option_a, Filter, "macs")
    before: Masks = {name: torch.ones_like(score, dtype=torch.bool) for name, score in units.items()}
    g = torch.Generator().manual_seed(0)
    for step in range(1, 11):
        rate = 0.7 * (1 - (1 - step / 10) ** 3)
        random_scores = {name: torch.rand(score.shape, generator=g) for name, score in units.items()}
        left = {name: score.masked_fill(~before[name], -torch.inf) for name, score in random_scores.items()}
        keep = ramp(Uniform() if step % 2 else Global(), left, rate)
        assert not any((keep[name] & ~before[name]).any() for name in keep)
        assert ramp.attained(keep) == pytest.approx(rate, abs=0.01)
        before = keep


def test_too_much_is_refused_with_what_can_go() -> None:
    keep = {name: torch.arange(len(score)) == 0 for name, score in scores(KerasCNN, Filter).items()}
    reachable = counted(KerasCNN, Filter, "params", keep)
    assert 0.98 < reachable < 0.981
    params = made(KerasCNN, Filter, "params")
    with pytest.raises(ValueError, match=r"rate=0.99 of params: at most 0.9807 can be removed.*granularity=channels"):
        params(Uniform(), scores(KerasCNN, Filter), 0.99)
    assert params.attained(params(Global(), scores(KerasCNN, Filter), 0.98)) == pytest.approx(0.98, abs=1e-3)


def test_blocks_come_as_near_as_they_can_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    macs, units = made(resnet20, Block, "macs"), scores(resnet20, Block)
    keep = macs(Global(), units, 0.5)
    order = units["blocks"].argsort()
    by_number = []
    for k in range(len(order)):
        kept = torch.ones(len(order), dtype=torch.bool)
        kept[order[:k]] = False
        by_number.append(abs(macs.attained({"blocks": kept}) - 0.5))
    assert abs(macs.attained(keep) - 0.5) == pytest.approx(min(by_number))
    assert "of macs instead of 0.5: these units come no nearer" in caplog.text


def test_blocks_that_only_luck_would_spare_go_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    params, units = made(resnet20, Block, "params"), scores(resnet20, Block)
    last = {"blocks": torch.arange(float(len(units["blocks"])))}  # the best is the largest of all
    keep = params(Global(), last, params.reachable - 0.001)
    assert keep["blocks"].nonzero().flatten().tolist() == [len(units["blocks"]) - 1]
    assert "come no nearer" in caplog.text


class Rows(Weight):
    """Says nothing of its cost."""

    layout = Granularity.layout


class Ruthless(Allocation):
    """Takes all of the first group, before anything else."""

    def __call__(self, units: Scores, rate: float) -> Masks:
        first = next(iter(units))
        return Uniform()(units, rate) | {first: torch.full_like(units[first], rate == 0.0, dtype=torch.bool)}


def test_no_group_is_emptied_whatever_the_allocation_does() -> None:
    macs, units = made(resnet8, Filter, "macs"), scores(resnet8, Filter)
    keep = macs(Ruthless(), units, 0.6)
    first = next(iter(units))
    assert keep[first][units[first].argmax()]


@pytest.mark.parametrize("allocation", [Global(), Isomorphic()], ids=lambda a: type(a).__name__)
def test_a_group_with_a_single_unit_left_is_named_and_no_rate_that_was_only_tried(
    allocation: Allocation, caplog: pytest.LogCaptureFixture
) -> None:
    made(option_a, Filter, "params")(allocation, scores(option_a, Filter), 0.3)
    (record,) = [record for record in caplog.records if record.name.startswith("prunelab")]
    assert "0.3 of params leaves a single unit of" in record.getMessage()
    assert "layer2.0.conv1.weight" in record.getMessage()
    Global()({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0, 5.0])}, 0.4)
    assert "a global threshold" in caplog.text  # it has its voice back


@pytest.mark.parametrize(
    "allocation", [Explicit({"fc": 0.5}, 0.5), Zeros(), Positive()], ids=lambda a: type(a).__name__
)
def test_an_allocation_that_says_itself_how_much_goes_is_refused(allocation: Allocation) -> None:
    with pytest.raises(ValueError, match=f"budget=macs: {type(allocation).__name__} decides itself how much"):
        made(resnet8, Filter, "macs")(allocation, scores(resnet8, Filter), 0.5)


def test_scores_that_are_not_numbers_are_refused() -> None:
    units = scores(resnet8, Filter) | {"conv1.weight": torch.full((16,), torch.nan)}
    with pytest.raises(ValueError, match="conv1.weight: its scores contain NaN"):
        made(resnet8, Filter, "macs")(Global(), units, 0.5)


def test_what_cannot_be_counted_or_timed_is_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="budget=flops: expected one of units"):
        Budget("flops").bind(net, Weight(), IMAGES)
    with pytest.raises(ValueError, match="budget=macs: N of every m weights are removed"):
        Budget("macs").bind(net, Pairs(), IMAGES)
    with pytest.raises(ValueError, match="units of Rows have no cost of their own: use budget=units"):
        Budget("params").bind(net, Rows(), IMAGES)
    with pytest.raises(ValueError, match="budget=macs: N of every m weights are removed"):
        Budget("macs").bind(net, NM(), IMAGES)
    with pytest.raises(ValueError, match="budget=latency.*granularity=filter"):
        Budget("latency").bind(net, Weight(), IMAGES)
    with pytest.raises(ValueError, match="budget=filters: the units are Weights; use budget=units"):
        Budget("filters").bind(net, Weight(), IMAGES)
    with pytest.raises(ValueError, match="budget=bops: MACs are counted on an example"):
        Budget("bops").bind(net, Weight(), None)


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


Clock = Callable[[Callable[[str, Tensor], float]], list[float]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time stands still: a parameter takes what a function of it says. Returns the time of each network."""

    def set_to(seconds: Callable[[str, Tensor], float]) -> list[float]:
        timed: list[float] = []

        def layer_seconds(nets: list[nn.Module], example: tuple[Tensor], *_: object) -> list[dict[str, float]]:
            assert len(example[0]) == 8  # on a CPU, where 128 images may take seconds
            tables = [{"": 0.0} | {name: seconds(name, p) for name, p in net.named_parameters()} for net in nets]
            timed.extend(sum(table.values()) for table in tables)
            return tables

        monkeypatch.setattr(stopwatch, "layer_seconds", layer_seconds)
        return timed

    return set_to


def elements(_: str, p: Tensor) -> float:
    return float(p.numel())


def in_steps(_: str, p: Tensor) -> float:
    """Channels in eights, and a price of each call."""
    return 50.0 + math.prod(8 * -(-size // 8) if axis < 2 else size for axis, size in enumerate(p.shape))


@pytest.mark.parametrize("rate", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("allocation", [Uniform(), Global()], ids=lambda a: type(a).__name__)
def test_latency_is_met_at_once_where_the_table_says_what_networks_take(
    clock: Clock, allocation: Allocation, rate: float
) -> None:
    net, granularity = bound(option_a, Filter)
    timed, before, times = Budget("latency").bind(net, granularity, IMAGES), parameters(net), clock(elements)
    units = scores(option_a, Filter)
    keep = timed(allocation, units, rate)
    assert len(times) == 5  # the table, the smallest network and one at the rate, each beside the whole one
    assert timed.attained(keep) == pytest.approx(rate, abs=0.01)
    assert timed.attained(keep) == pytest.approx(counted(option_a, Filter, "params", keep))
    assert all(kept.all() or units[name][kept].min() >= units[name][~kept].max() for name, kept in keep.items())
    assert parameters(net) == before


@pytest.mark.parametrize("rate", [0.3, 0.5])
@pytest.mark.parametrize("allocation", [Uniform(), Global()], ids=lambda a: type(a).__name__)
def test_latency_is_met_where_kernels_take_steps_and_the_table_does_not(
    clock: Clock, allocation: Allocation, rate: float
) -> None:
    net, granularity = bound(option_a, Filter)
    assert isinstance(granularity, PrunableStructure)
    times = clock(in_steps)
    timed, small = Budget("latency").bind(net, granularity, IMAGES), deepcopy(net)
    shrink(small, granularity.plan(timed(allocation, scores(option_a, Filter), rate)))
    whole, left = (sum(in_steps(name, p) for name, p in each.named_parameters()) for each in (net, small))
    assert 1 - left / whole == pytest.approx(rate, abs=0.05)
    assert len(times) <= 15
    assert timed.stopwatch is not None
    assert timed.stopwatch.costs.removed(timed.stopwatch.costs.whole[:, None]) == 0


@pytest.mark.parametrize("dear", ["0.weight", "4.weight"])
def test_one_threshold_takes_units_where_they_save_most_time_for_their_score(dear: str, clock: Clock) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 3, 1), nn.ReLU(), nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 3, 1)
    )
    clock(lambda name, p: p.numel() * (3.0 if name == dear else 1.0) * (p.dim() > 1))
    granularity = Filter().bind(net, prunable_weights(net, ["2.*"]), IMAGES)
    timed = Budget("latency").bind(net, granularity, IMAGES)
    units = {
        "0.weight": torch.tensor([2.0, 2.2, 2.4, 2.6, 2.8, 9.0]),
        "4.weight": torch.tensor([2.1, 2.3, 2.5, 2.7, 2.9, 9.0]),
    }
    keep = timed(Global(), units, 1 / 3)
    masks = [torch.tensor(side) for side in product([True, False], repeat=6) if any(side)]
    ways = [{"0.weight": first, "4.weight": second} for first in masks for second in masks]
    enough = [way for way in ways if timed.attained(way) > 0.333]
    best = min(enough, key=lambda way: sum(float(units[name][~mask].sum()) for name, mask in way.items()))
    assert {name: mask.tolist() for name, mask in keep.items()} == {n: mask.tolist() for n, mask in best.items()}
    assert [name for name, mask in keep.items() if not mask.all()] == [dear]
    assert Budget("macs").bind(net, granularity, IMAGES)(Global(), units, 1 / 3)["0.weight"].count_nonzero() == 4


@pytest.mark.parametrize("score", [1.0, -1.0])
def test_of_equal_scores_those_go_first_that_save_most_time(score: float, clock: Clock) -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 3, 1))
    clock(lambda name, p: p.numel() * (9.0 if name == "2.weight" else 1.0))
    timed = Budget("latency").bind(net, Filter().bind(net, prunable_weights(net), IMAGES), IMAGES)
    assert timed.stopwatch is not None
    weighed = timed.stopwatch.weighed({name: torch.full((6,), score) for name in ("0.weight", "1.weight")})
    assert weighed["1.weight"].max() < weighed["0.weight"].min()  # whose channels the dear layer does not read


class Abrupt(Allocation):
    """Takes next to nothing, or next to all."""

    def __call__(self, units: Scores, rate: float) -> Masks:
        return Uniform()(units, 0.01 if rate < 0.37 else 0.95)


def test_few_networks_are_timed_where_none_comes_near_which_is_said(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = clock(elements)
    monkeypatch.setattr(
        Steps,
        "adjust",
        lambda self, keep, *_: (keep, float(self.cost_model.removed(self.cost_model.left(keep)[:, None]))),
    )
    Budget("latency").bind(*bound(option_a, Filter), IMAGES)(Abrupt(), scores(option_a, Filter), 0.5)
    assert len(times) <= 15
    assert "of the networks that were timed the nearest saves 0." in caplog.text


def test_latency_that_cannot_be_reached_is_refused_before_other_rates_are_tried(clock: Clock) -> None:
    times, timed = clock(elements), Budget("latency").bind(*bound(KerasCNN, Filter), IMAGES)
    with pytest.raises(ValueError, match=r"rate=0.99 of latency: at most 0.9807 can be removed"):
        timed(Uniform(), scores(KerasCNN, Filter), 0.99)
    assert len(times) == 3


def test_of_nothing_removed_no_time_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "SECONDS", 0.0)  # really measured, in few turns
    units, timed = scores(resnet8, Filter), Budget("latency").bind(*bound(resnet8, Filter), IMAGES)
    assert all(kept.all() for kept in timed(Uniform(), units, 0.0).values())
    timed(Uniform(), units, 0.2)
    assert 0 < timed.reachable < 1
    assert timed.attained(Uniform()(units, 0.0)) == 0.0


def test_latency_is_measured_once_and_the_state_holds_it(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    net = resnet8()
    made = [Pruner(Norm(), Filter(), Global(), Rounds(0.5, start=0.0), budget=Budget("latency")) for _ in range(3)]
    for pruner in made:
        pruner.attach(net, IMAGES)
    first, again, other = made
    assert first.state_dict()["budget"] == {"seconds": {}, "points": [], "rates": []}
    clock(in_steps)
    masks = {rate: first.masks_at(rate) for rate in (0.5, 0.3)}
    torch.save(first.state_dict(), file := io.BytesIO())
    clock(elements)
    unlike = {rate: other.masks_at(rate) for rate in masks}
    monkeypatch.setattr(stopwatch, "layer_seconds", lambda *_: pytest.fail("measured again"))
    again.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for rate, before in masks.items():
        assert all(torch.equal(mask, before[name]) for name, mask in again.masks_at(rate).items())
        assert any(not torch.equal(mask, before[name]) for name, mask in unlike[rate].items())
    again.load_state_dict({key: value for key, value in first.state_dict().items() if key != "budget"})  # until 0.2.0
    assert again.state_dict()["budget"] == first.state_dict()["budget"]


class Module(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = resnet8()
        self.example_input_array = IMAGES

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.mark.parametrize("of", ["macs", "latency"])
def test_a_budget_is_met_while_a_module_trains(of: str, clock: Clock) -> None:
    clock(elements)
    pruner = Pruner(Norm(), Filter(), Uniform(), Rounds(rate=0.5, start=0.5), budget=Budget(of))
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Pruning(pruner)],
    )  # fmt: skip
    images = TensorDataset(torch.randn(16, 3, 32, 32), torch.arange(16) % 10)
    trainer.fit(Module(), DataLoader(images, batch_size=4))
    assert pruner.budget is not None
    assert pruner.budget.attained(pruner.keep) == pytest.approx(0.5, abs=0.01)
