"""The seconds of a pass by layer, by a clock that only layers move."""

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from prunelab.measure.layer_seconds import layer_seconds
from prunelab.models.cifar_resnet import resnet8

Clock = Callable[[float], None]


class Takes(nn.Module):
    """Takes its seconds, in turn, of the clock; a layer where it has a parameter."""

    def __init__(self, clock: Clock, *seconds: float, layer: bool = True) -> None:
        super().__init__()
        self.clock, self.seconds = clock, list(seconds)
        self.weight = nn.Parameter(torch.ones(1)) if layer else None

    def forward(self, x: Tensor) -> Tensor:
        self.clock(self.seconds[0])
        self.seconds.append(self.seconds.pop(0))
        return x


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_what_comes_after_a_layer_counts_to_it_and_the_fewest_seconds_count(clock: Clock) -> None:
    twice = Takes(clock, 1.0, 1.0, 9.0, 1.0)
    net = nn.Sequential(
        Takes(clock, 2.0, layer=False), Takes(clock, 30.0, 3.0), Takes(clock, 4.0, layer=False), twice, twice
    )
    quick = Takes(clock, 0.5)
    first, second = layer_seconds([net, quick], torch.zeros(1), seconds=0.0, least=1, most=9)
    assert first == {"": 2.0, "1.weight": 7.0, "3.weight": 2.0}
    assert second == {"": 0.0, "weight": 0.5}
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_turns_last_as_long_as_is_asked(clock: Clock) -> None:
    counts = []
    for seconds, least, most in ((0.0, 3, 9), (60.0, 3, 5)):
        net = Takes(lambda _: counts[-1].append(1), 1.0)
        counts.append([])
        layer_seconds([net], torch.zeros(1), seconds, least, most)
    assert list(map(len, counts)) == [6, 10]


def test_networks_stay_as_they_are() -> None:
    net = resnet8().train()
    before, stream = {name: t.clone() for name, t in net.state_dict().items()}, torch.random.get_rng_state()
    (table,) = layer_seconds([net], torch.zeros(2, 3, 32, 32), 0.0, 1, 1)
    assert set(table) == {""} | {name for name, _ in net.named_parameters()} - {n for n in before if n.endswith("bias")}
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert torch.equal(torch.random.get_rng_state(), stream)
