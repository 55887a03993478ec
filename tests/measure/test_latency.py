"""Latency is measured in turns, on networks as they will be used, and preserves their state."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunelab.measure.latency import conditions, latency, suited, timings
from prunelab.models.cifar_resnet import resnet8


class Sleeper(nn.Module):
    """Sleeps for 0.05 seconds in its first `slow` turns, then for `seconds`."""

    def __init__(self, name: str, seconds: float, diary: list[str], slow: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
        self.name, self.seconds, self.diary, self.slow = name, seconds, diary, slow
        self.seen: set[tuple[bool, bool, torch.dtype]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add((self.training, torch.is_grad_enabled(), x.dtype))
        time.sleep(self.seconds if self.diary.count(self.name) >= self.slow else 0.05)
        self.diary.append(self.name)
        return x * self.weight


def test_networks_take_turns_and_warmup_does_not_count() -> None:
    diary: list[str] = []
    fast, slow = Sleeper("fast", 0.001, diary, slow=2), Sleeper("slow", 0.02, diary)
    first, second = latency([fast, slow], torch.zeros(4), rounds=3, warmup=2, pick=min)
    assert diary == ["fast", "slow"] * 5
    assert 0.001 <= first < 0.02 <= second


def test_the_result_is_the_median_of_the_rounds_by_default() -> None:
    diary: list[str] = []
    assert latency([Sleeper("x", 0.0, diary)], torch.zeros(4), rounds=5, warmup=2, pick=len) == [5]
    ticks = iter([0.0, 9.0, 10.0, 11.0, 20.0, 23.0])  # 9, 1 and 3 seconds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: next(ticks))
        assert latency([nn.Linear(1, 1)], torch.zeros(1), rounds=3, warmup=0) == [3.0]


def test_networks_run_compiled_only_if_all_of_them_are() -> None:
    runs: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        return lambda *args: runs.append("compiled") or graph(*args)

    eager, in_place, body = (nn.Sequential(nn.Linear(2, 2)).eval() for _ in range(3))
    in_place.compile(backend=backend)
    body[0].compile(backend=backend)
    wrapped = torch.compile(nn.Linear(2, 2).eval(), backend=backend)
    x = torch.zeros(1, 2)
    for one in (in_place, body, wrapped):
        for nets in ([eager, one], [one, eager]):
            assert conditions(nets, x) == "float32, not compiled"
            latency(nets, x, rounds=1, warmup=1)
    assert not runs
    assert conditions([in_place, wrapped], x) == "float32, compiled"
    latency([in_place, body, wrapped], x, rounds=1, warmup=1)
    assert len(runs) == 6  # so they are compiled still


def test_in_eval_mode_without_gradients_in_the_precision_of_the_net() -> None:
    sleeper = Sleeper("x", 0.0, []).train()
    latency([sleeper], (torch.zeros(4),), rounds=1, warmup=1)
    assert sleeper.seen == {(False, False, torch.float64)}
    assert sleeper.training


def test_timings_are_those_of_every_round_after_the_warmup(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 9.0, 10.0, 15.0, 20.0, 21.0, 30.0, 32.0])  # 9 and 5 warm up; then 1 and 2 seconds
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    assert timings([nn.Linear(1, 1), nn.Linear(1, 1)], torch.zeros(1), rounds=1, warmup=1) == [[1.0], [2.0]]


def test_inputs_take_the_dtype_of_the_first_float_parameter_and_integers_stay() -> None:
    net = nn.Module()
    net.whole = nn.Parameter(torch.ones(1, dtype=torch.int8), requires_grad=False)
    net.real = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    x, i = suited(net, (torch.zeros(2), torch.zeros(2, dtype=torch.long)))
    assert (x.dtype, i.dtype) == (torch.bfloat16, torch.long)
    assert suited(nn.ReLU(), torch.zeros(2, dtype=torch.float64))[0].dtype == torch.float64  # without parameters


def test_state_is_preserved() -> None:
    net = resnet8().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    stream = torch.random.get_rng_state()
    assert all(seconds > 0 for seconds in latency([net, net], torch.zeros(2, 3, 32, 32), rounds=2, warmup=1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert torch.equal(torch.random.get_rng_state(), stream)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_synchronised() -> None:
    large = nn.Sequential(*(nn.Linear(8192, 8192, bias=False) for _ in range(8))).cuda()
    (seconds,) = latency([large], torch.zeros(8192, 8192), rounds=5)
    assert seconds > 8 * 2 * 8192**3 / 2e15  # no GPU does 2 PFLOP/s in float32
