"""Budgets of networks whose MACs are in no proportion to what layers make and read: what is told is what is counted."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from attention_nets import EXAMPLE, mixers, torchs
from small_nets import dense, option_a
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from prunelab.channels import meter
from prunelab.channels.budget import Budget
from prunelab.channels.surgery import shrink
from prunelab.channels.units import Channels
from prunelab.core.allocation import Global, Uniform
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.types import Example, Scores
from prunelab.measure.profiler import network_cost

IMAGES = torch.zeros(4, 3, 8, 8)


class EachChannel(nn.Module):
    """Channels as a batch of images: a layer applies its weights once to each."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.each, self.b = nn.Conv2d(3, 16, 1), nn.Conv2d(1, 1, 5, padding=2), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        b, c, h, w = x.shape
        return self.b(self.each(x.reshape(b * c, 1, h, w)).reshape(b, c, h, w)).mean((2, 3))


class Pooled(nn.Module):
    """One answer for a whole batch, which a report counts for one input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(*sizes) for sizes in ((6, 32), (32, 32), (32, 64), (64, 3)))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.b(torch.relu(self.a(x)))).mean(0, keepdim=True)
        return self.d(torch.relu(self.c(x))).expand(4, -1)


class Computed(nn.Sequential):
    def __init__(self, norm: Callable[[nn.Module], nn.Module]) -> None:
        wide = norm(nn.Conv2d(8, 64, 3))
        super().__init__(
            nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 16, 1), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.ReLU(), wide
        )

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean((2, 3))


NETS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "tokens": (mixers, EXAMPLE),
    "channels as a batch": (EachChannel, IMAGES),
    "pooled batches": (Pooled, torch.zeros(4, 6)),
    "weight norm": (lambda: Computed(parametrizations.weight_norm), IMAGES),
    "spectral norm": (lambda: Computed(parametrizations.spectral_norm), IMAGES),
}


def bound(net: nn.Module, example: Example, of: str = "macs", round_to: int = 1) -> tuple[Channels, Budget, Scores]:
    units = Channels().bind(net, prunable_weights(net), example)
    scores = units.reduce({name: w.detach().abs() for name, w in prunable_weights(net).items()})
    return units, Budget(of, round_to).bind(net, units, example), scores


@pytest.mark.parametrize(("make", "example"), NETS.values(), ids=NETS)
@pytest.mark.parametrize("of", ["macs", "bops"])
def test_what_is_told_is_what_the_small_network_counts_and_near_the_rate(
    make: Callable[[], nn.Module], example: Tensor, of: str
) -> None:
    torch.manual_seed(0)
    net = make()
    units, budget, scores = bound(net, example, of)
    keep = budget(Uniform(), scores, 0.2)
    told, whole = budget.attained(keep), getattr(network_cost(net, example), of)
    shrink(net, units.plan(keep))
    assert told == pytest.approx(1 - getattr(network_cost(net, example), of) / whole, abs=1e-12)
    assert told == pytest.approx(0.2, abs=0.02)


def test_channels_as_a_batch_by_hand() -> None:
    _, budget, scores = bound(EachChannel(), IMAGES)
    keep = budget(Global(), scores, 0.5)
    (kept,) = keep.values()
    assert int(kept.count_nonzero()) == 8  # each of 16 channels has 64 x (3 + 25 + 4) products
    assert budget.attained(keep) == 0.5
    assert budget.reachable == 15 / 16


@pytest.mark.parametrize("rate", [0.25, 0.75, 0.875])
def test_a_rate_far_above_the_tables_is_met(rate: float) -> None:
    """By the table of weights half of the cost cannot go."""
    _, budget, scores = bound(EachChannel(), IMAGES)
    assert budget.attained(budget(Uniform(), scores, rate)) == rate


def test_the_same_widths_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, budget, scores = bound(EachChannel(), IMAGES)
    keep = budget(Uniform(), scores, 0.75)
    monkeypatch.setattr(meter, "copied", None)
    assert budget.attained(keep) == 0.75


def test_a_rate_that_units_do_not_meet_is_told_as_counted(caplog: pytest.LogCaptureFixture) -> None:
    _, budget, scores = bound(EachChannel(), IMAGES)
    budget(Uniform(), scores, 0.53)
    (record,) = [record for record in caplog.records if record.name == "prunelab.channels.budget"]
    assert record.getMessage() == "removed 0.5000 of macs instead of 0.53: these units come no nearer"


def test_widths_are_rounded_to_the_rate_as_counted() -> None:
    _, budget, scores = bound(EachChannel(), IMAGES, round_to=4)
    keep = budget(Uniform(), scores, 0.25)
    assert [int(kept.count_nonzero()) for kept in keep.values()] == [12]
    assert (budget.attained(keep), budget.reachable) == (0.25, 0.75)


def test_a_ramp_ends_at_its_rate() -> None:
    torch.manual_seed(0)
    _, budget, scores = bound(mixers(), EXAMPLE)
    for rate in (0.1, 0.2, 0.3, 0.4):
        keep = budget(Global(), scores, rate)
        assert budget.attained(keep) == pytest.approx(rate, abs=0.02)
        scores = {name: score.masked_fill(~keep[name], -torch.inf) for name, score in scores.items()}


@pytest.mark.parametrize("make", [option_a, dense, torchs])
def test_nothing_is_counted_again_where_costs_are_in_proportion(make: Callable[[], nn.Module]) -> None:
    example = EXAMPLE if make is torchs else torch.zeros(2, 3, 32, 32)
    assert bound(make(), example)[1].meter is None


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        return self.c(torch.relu(self.a(x) + self.b(y)) * scale)


def test_a_network_of_several_inputs_by_hand() -> None:
    _, budget, scores = bound(TwoInputs(), (torch.zeros(4, 6), torch.zeros(4, 4), torch.tensor(2.0)))
    keep = budget(Uniform(), scores, 0.25)
    assert [int(kept.count_nonzero()) for kept in keep.values()] == [12]  # each unit has 6 + 4 + 3 products
    assert budget.attained(keep) == 0.25


class TwoPrecisions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 8)
        self.c, self.d = nn.Linear(8, 8).bfloat16(), nn.Linear(8, 2).bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(self.b(self.a(x)).bfloat16()))


def test_bops_are_by_the_bits_of_each_layer() -> None:
    net = TwoPrecisions()
    units, budget, _ = bound(net, torch.zeros(2, 6), "bops")
    keep = {name: torch.arange(len(n)) < (4 if name == "a.weight" else 8) for name, n in units.numbers.items()}
    small = deepcopy(net)
    shrink(small, units.plan(keep))
    whole, gone = 1024 * (48 + 64) + 256 * (64 + 16), 1024 * (24 + 32)  # half of what makes and reads a's channels
    assert budget.attained(keep) == pytest.approx(gone / whole)
    assert network_cost(small, torch.zeros(2, 6)).bops == whole - gone
