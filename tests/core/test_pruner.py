"""Laws 1, 2 and 4 on a bare network: exact rates, plain parameters, pruned stays pruned."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from torch import nn

from prunelab.channels.budget import Budget
from prunelab.channels.units import Filter
from prunelab.core.allocation import ERK, Allocation, Global, Uniform, UniformPlus
from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.granularity import NM, Granularity, Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic, Rounds
from prunelab.core.time import Progress
from prunelab.core.types import Masks, Scores
from prunelab.criteria.lamp import LAMP
from prunelab.criteria.movement import Movement
from prunelab.criteria.norm import Norm
from prunelab.criteria.random import Random
from prunelab.criteria.synflow import SynFlow
from prunelab.criteria.taylor import Taylor


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10), nn.ReLU(), nn.Flatten(), nn.Linear(360, 5))


def ramp(criterion=None, granularity=None, allocation=None, rate: float = 0.8, seed: int = 0) -> Pruner:
    schedule = Cubic(rate=rate, start=0.0, end=0.5, every="10it")
    return Pruner(criterion or Norm(), granularity or Weight(), allocation or Uniform(), schedule, seed=seed)


def at(step: int) -> Progress:
    return Progress(step, total=100, epoch=10)


EXAMPLE = torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize("criterion", [Norm(), Norm(2), Random()])
@pytest.mark.parametrize("granularity", [Weight(), Filter()])
@pytest.mark.parametrize("allocation", [Uniform(), Global()])
def test_every_combination_meets_its_rate_exactly_and_prunes_monotonically(criterion, granularity, allocation) -> None:
    model, pruner = net(), ramp(criterion, granularity, allocation)
    pruner.attach(model, EXAMPLE)
    gone: dict[str, torch.Tensor] = {}
    for step in range(0, 60, 5):
        pruner.update(at(step))
        with torch.no_grad():
            for p in model.parameters():  # training goes on: every weight moves, pruned ones are put back
                p.add_(torch.randn_like(p))
        pruner.apply()
        for name, before in gone.items():
            assert not (before & pruner.masks[name]).any()
        gone = {name: ~mask for name, mask in pruner.masks.items()}
    removed, units = (sum(c) for c in zip(*pruner.unit_counts().values(), strict=True))
    assert removed == round(0.8 * units)
    for name, mask in pruner.masks.items():
        assert mask.dtype == torch.bool
        assert torch.equal(model.get_parameter(name) == 0, ~mask)


class Gated(nn.Module):
    """Attention and a recurrent layer, with a frozen embedding of the inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(6, 8).requires_grad_(False)
        self.attention, self.lstm = nn.MultiheadAttention(8, 2, batch_first=True), nn.LSTM(8, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.frozen(x)
        return self.head(self.lstm(self.attention(x, x, x)[0])[0][:, -1])


@pytest.mark.parametrize("criterion", [Norm(), Random(), Taylor(), SynFlow(), LAMP()])
@pytest.mark.parametrize("granularity", [Weight(), NM(m=2)])
def test_attention_and_recurrent_layers_are_pruned_and_frozen_ones_are_not(criterion, granularity) -> None:
    model, data = Gated(), (torch.randn(4, 5, 6), torch.tensor([0, 1, 2, 0]))
    before = model.frozen.weight.clone()
    pruner = Pruner(criterion, granularity, Global(), Rounds(rate=0.5, start=0.0))
    pruner.attach(model, data[0], draw=lambda count, _: [data] * count)
    pruner.update(at(0))
    assert torch.equal(model.frozen.weight, before)
    names = ("attention.in_proj_weight", "attention.out_proj.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0")
    assert set(pruner.masks) == {*names, "head.weight"}
    weights = [model.get_parameter(name) for name in pruner.masks]
    assert sum(int((w == 0).sum()) for w in weights) == sum(w.numel() for w in weights) / 2


def test_names_and_identity_of_parameters_stay() -> None:
    model, pruner = net(), ramp()
    before = {name: id(p) for name, p in model.named_parameters()}
    keys = list(model.state_dict())
    pruner.attach(model)
    pruner.update(at(60))
    assert before == {name: id(p) for name, p in model.named_parameters()}
    assert keys == list(model.state_dict())


def test_rate_zero_touches_nothing() -> None:
    model, pruner = net(), ramp(rate=0.0)
    before = {name: p.clone() for name, p in model.named_parameters()}
    pruner.attach(model)
    assert not any(pruner.update(at(step)) for step in range(100))
    assert not pruner.masks
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_tied_weights_and_all_equal_weights_meet_the_rate_exactly() -> None:
    model = nn.Sequential(nn.Linear(7, 7), nn.Linear(7, 7), nn.Linear(7, 3))
    model[1].weight = model[0].weight
    for p in model.parameters():
        nn.init.ones_(p)
    pruner = ramp(rate=0.3)
    pruner.attach(model)
    pruner.update(at(99))
    assert pruner.unit_counts() == {"0.weight": (round(0.3 * 49), 49), "2.weight": (round(0.3 * 21), 21)}
    assert model[1].weight.eq(0).sum() == round(0.3 * 49)


def test_momentum_and_adams_moments_of_pruned_weights_are_zeroed() -> None:
    for make in (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), torch.optim.AdamW):
        model, pruner = net(), ramp()
        optimizer = make(model.parameters())
        pruner.attach(model)
        model(torch.randn(4, 3, 8, 8)).sum().backward()
        optimizer.step()
        pruner.update(at(99))
        pruner.apply(optimizer)
        checked = 0
        for name, mask in pruner.masks.items():
            for state in optimizer.state[model.get_parameter(name)].values():
                if isinstance(state, torch.Tensor) and state.shape == mask.shape:
                    assert not state[~mask].any()
                    assert state[mask].any()
                    checked += 1
        assert checked >= 2


def test_gradients_of_pruned_weights_do_not_count_in_a_norm() -> None:
    model, pruner = net(), ramp()
    pruner.attach(model)
    pruner.update(at(99))
    model(torch.randn(4, 3, 8, 8)).sum().backward()
    pruner.mask_gradients()
    for name, mask in pruner.masks.items():
        assert not model.get_parameter(name).grad[~mask].any()


def test_the_same_seed_draws_the_same_masks_and_another_seed_others() -> None:
    def masks(seed: int) -> dict[str, torch.Tensor]:
        pruner = ramp(Random(), seed=seed)
        pruner.attach(net())
        pruner.update(at(20))
        pruner.update(at(99))
        return pruner.masks

    first, again, other = masks(0), masks(0), masks(1)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not all(torch.equal(first[n], other[n]) for n in first)


def test_a_saved_pruner_goes_on_as_the_uninterrupted_one() -> None:
    def finish(pruner: Pruner) -> dict[str, torch.Tensor]:
        pruner.update(at(99))
        return pruner.masks

    whole, broken = ramp(Random(), Filter()), ramp(Random(), Filter())
    for pruner in (whole, broken):
        pruner.attach(net(), EXAMPLE)
        pruner.update(at(15))
    resumed = ramp(Random(), Filter(), seed=7)
    resumed.attach(net(), EXAMPLE)
    resumed.load_state_dict(broken.state_dict())
    expected = finish(whole)
    assert all(torch.equal(mask, expected[name]) for name, mask in finish(resumed).items())


def test_a_pruner_attached_again_has_forgotten_the_first_net() -> None:
    pruner = ramp(Random())
    pruner.attach(net())
    pruner.update(at(99))
    first = dict(pruner.masks)
    pruner.attach(net())
    assert pruner.rate == 0.0
    assert not pruner.masks
    pruner.update(at(99))
    assert all(torch.equal(mask, first[name]) for name, mask in pruner.masks.items())


def test_masks_of_another_net_are_refused_by_name() -> None:
    pruner = ramp()
    pruner.attach(net())
    pruner.update(at(99))
    other = ramp()
    other.attach(nn.Sequential(nn.Conv2d(3, 11, 3)))
    with pytest.raises(ValueError, match=r"mask 0.weight \(10, 3, 3, 3\) does not fit this network: \(11, 3, 3, 3\)"):
        other.load_state_dict(pruner.state_dict())


def test_diverged_weights_are_refused_by_layer() -> None:
    model, pruner = net(), ramp()
    pruner.attach(model)
    model[4].weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="4.weight: its scores contain NaN"):
        pruner.update(at(99))


def test_random_scores_do_not_follow_the_initial_weights_of_the_same_seed() -> None:
    torch.manual_seed(0)
    model = nn.Linear(100, 100, bias=False)
    weights = model.weight.detach().clone()
    pruner = ramp(Random(), rate=0.5, seed=0)
    pruner.attach(model)
    pruner.update(at(99))
    kept = pruner.masks["weight"].float()
    assert abs(torch.corrcoef(torch.stack([kept.flatten(), weights.flatten()]))[0, 1]) < 6 / 100  # 6 / sqrt(n)


def test_mask_factors_lie_in_memory_as_their_weights_do() -> None:
    model, pruner = net().to(memory_format=torch.channels_last), ramp()
    pruner.attach(model)
    pruner.update(at(99))
    assert pruner._masked._factors["0.weight"].stride() == model[0].weight.stride()


def test_one_shot_takes_the_smallest_by_hand() -> None:
    model = nn.Linear(4, 1, bias=False)
    model.weight.data = torch.tensor([[0.1, -0.4, 0.3, -0.2]])
    pruner = Pruner(Norm(), Weight(), Uniform(), Rounds(rate=0.5, start=0.0))
    pruner.attach(model)
    assert pruner.update(at(0))
    assert model.weight.tolist() == [[0.0, pytest.approx(-0.4), pytest.approx(0.3), 0.0]]


@dataclass(frozen=True)
class Noted(Allocation):
    """Uniform, which notes the rates it was asked for and what it kept."""

    calls: list[tuple[float, Masks]] = field(default_factory=list)

    def __call__(self, units: Scores, rate: float) -> Masks:
        keep = Uniform()(units, rate)
        self.calls.append((rate, keep))
        return keep


@dataclass(frozen=True)
class Counted(Criterion):
    """Random, which notes how many weights were zero when it was asked."""

    zeros: list[int] = field(default_factory=list)

    def __call__(self, ctx: Context) -> Scores:
        self.zeros.append(sum(int((w == 0).sum()) for w in ctx.params.values()))
        return Random()(ctx)


@pytest.mark.parametrize("granularity", [Weight(), Filter()])
def test_passes_take_the_same_share_of_what_is_left_and_meet_the_rate_exactly(granularity: Granularity) -> None:
    model, noted, counted = net(), Noted(), Counted()
    pruner = Pruner(counted, granularity, noted, Rounds(rate=0.84, n=2, start=0.0), passes=4)
    pruner.attach(model, EXAMPLE)
    pruner.update(at(0))
    assert pruner.rate == pytest.approx(0.6)
    pruner.update(at(50))
    left = [1.0, *(1 - rate for rate, _ in noted.calls)]  # 0.16 in two rounds of four passes
    assert len(noted.calls) == 8
    assert [b / a for a, b in pairwise(left)] == pytest.approx([0.16 ** (1 / 8)] * 8)
    assert pruner.rate == noted.calls[-1][0] == 0.84
    assert all(gone == round(0.84 * n) for gone, n in pruner.unit_counts().values())
    for (_, before), (_, after) in pairwise(noted.calls):
        for name, kept in after.items():
            assert not (kept & ~before[name]).any()
            assert kept.sum() <= before[name].sum()
    assert counted.zeros == sorted(counted.zeros)
    assert counted.zeros[0] == 0 < counted.zeros[1] < counted.zeros[3]  # each was scored on what the last one left


def test_the_last_of_several_passes_asks_for_the_very_rate() -> None:
    noted = Noted()  # 1 - 0.7 is not 0.3 in floating point
    pruner = Pruner(Norm(), Weight(), noted, Rounds(rate=0.3, n=2, start=0.0), passes=2)
    pruner.attach(net())
    pruner.update(at(0))
    pruner.update(at(99))
    assert noted.calls[-1][0] == 0.3


def test_less_than_one_pass_is_refused() -> None:
    with pytest.raises(ValueError, match="passes=0: expected at least 1"):
        Pruner(Norm(), Weight(), Uniform(), Rounds(rate=0.5), passes=0).attach(net())


@pytest.mark.parametrize("granularity", [Weight(), Filter()])
def test_a_shuffled_mask_keeps_its_counts_elsewhere_reproducibly(granularity: Granularity) -> None:
    def shuffled(seed: int) -> tuple[Pruner, Masks]:
        pruner = ramp(granularity=granularity, rate=0.5, seed=seed)
        pruner.attach(net(), EXAMPLE)
        pruner.update(at(99))
        before = dict(pruner.keep)
        pruner.shuffle()
        return pruner, before

    (pruner, before), (again, _), (other, _) = shuffled(0), shuffled(0), shuffled(1)
    assert pruner.rate == 0.5
    for name, kept in pruner.keep.items():
        assert kept.shape == before[name].shape
        assert kept.sum() == before[name].sum()
        assert torch.equal(kept, again.keep[name])
    for reference in (before, other.keep):
        assert not all(torch.equal(kept, reference[name]) for name, kept in pruner.keep.items())
    pruner.apply()
    for name, mask in granularity.bind(net(), pruner._prunable, EXAMPLE).expand(pruner.keep).items():
        assert torch.equal(pruner.masks[name], mask)
        assert not pruner._masked.params[name][~mask].any()


def test_layers_of_one_size_are_shuffled_apart() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    nn.init.ones_(model[0].weight)
    nn.init.ones_(model[1].weight)
    pruner = ramp(rate=0.5)
    pruner.attach(model)
    pruner.update(at(99))
    pruner.shuffle()
    assert not torch.equal(pruner.masks["0.weight"], pruner.masks["1.weight"])


def test_what_a_criterion_has_watched_travels_with_the_state() -> None:
    def watched(steps: range, pruner: Pruner, model: nn.Module) -> None:
        for number in steps:
            torch.manual_seed(number)
            model.zero_grad()
            model(torch.randn(4, 3, 8, 8)).square().sum().backward()
            pruner.watch()
            pruner.stepped()

    whole, broken, resumed = ramp(Movement()), ramp(Movement()), ramp(Movement())
    models = {"whole": net(), "broken": net(), "resumed": net()}
    for pruner, model in zip((whole, broken, resumed), models.values(), strict=True):
        pruner.attach(model)
    watched(range(6), whole, models["whole"])
    watched(range(3), broken, models["broken"])
    resumed.load_state_dict(broken.state_dict())
    models["resumed"].load_state_dict(models["broken"].state_dict())
    watched(range(3, 6), resumed, models["resumed"])
    memory = whole.state_dict()["memory"]
    assert memory.keys() == {"0.weight", "4.weight"}
    for name, kept in resumed.state_dict()["memory"].items():
        assert kept.any()
        assert torch.equal(kept, memory[name])
    for pruner in (whole, resumed):
        pruner.update(at(99))
    assert all(torch.equal(mask, resumed.masks[name]) for name, mask in whole.masks.items())


def test_a_criterion_that_does_not_watch_is_not_shown_anything() -> None:
    pruner = ramp(Norm())
    pruner.attach(net())
    assert not pruner.watches
    assert pruner.batches == 0
    pruner.watch()
    assert pruner.state_dict()["memory"] == {}


def test_what_was_attained_is_restored_with_the_masks() -> None:
    pruner, resumed = ramp(rate=0.8), ramp(rate=0.8)
    for each in (pruner, resumed):
        each.attach(net())
    pruner.update(at(60))
    resumed.load_state_dict(pruner.state_dict())
    assert resumed.attained == pruner.attained == 0.8


@pytest.mark.parametrize("allocation", [ERK(dense_first=True), UniformPlus()])
def test_where_the_first_layer_is_skipped_the_second_is_not_taken_for_it(allocation: Allocation) -> None:
    net = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))
    for skip in ([], ["0.*"]):
        pruner = Pruner(Norm(), Weight(), allocation, Rounds(rate=0.5, start=0.0), skip=skip)
        pruner.attach(net)
        counts = [int((~kept).sum()) for kept in pruner.masks_at(0.5).values()]
        assert counts == ([32, 32, 32] if skip else [0, 42, 43, 43])


def test_a_criterion_of_training_data_needs_a_batch() -> None:
    for batches in (0, -1, 0.5):
        pruner = Pruner(Taylor(batches=batches), Weight(), Uniform(), Rounds(rate=0.5, start=0.0))
        with pytest.raises(ValueError, match=f"Taylor: batches={batches}: expected a whole number of at least 1"):
            pruner.attach(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"criterion": Norm}, r"criterion=Norm: it is a class, expected an object: write Norm\(\.\.\.\)"),
        ({"criterion": Weight(), "granularity": Norm()}, r"criterion=Weight\(\): expected a Criterion"),
        ({"budget": "latency"}, r"budget='latency': expected an object, such as Budget\(of='macs'\)"),
        ({"budget": Budget}, r"budget=<class .*Budget'>: expected an object, such as Budget\(of='macs'\)"),
        ({"skip": "0.weight"}, r"skip='0.weight': expected a list of patterns: write skip=\['0.weight'\]"),
    ],
)
def test_parts_in_the_wrong_place_are_told(changed: dict, message: str) -> None:
    parts = {"criterion": Norm(), "granularity": Weight(), "allocation": Uniform(), "schedule": Rounds(rate=0.5)}
    with pytest.raises(TypeError, match=message):
        Pruner(**(parts | changed))
