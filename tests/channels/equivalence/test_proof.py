"""What a network cannot lose is found before training, and kept; the rest can be cut."""

import copy
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunelab.channels.budget import Budget
from prunelab.channels.equivalence import proof
from prunelab.channels.equivalence.certificate import EquivalenceCheck
from prunelab.channels.equivalence.trial import mask
from prunelab.channels.surgery import shrink
from prunelab.channels.units import Channels
from prunelab.core.allocation import Uniform
from prunelab.core.network.prunable import prunable_weights

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Forward = Callable[..., Any]


class Net(nn.Module):
    """Four convolutions in a row, and what is done between them."""

    def __init__(self, between: Forward = lambda m, x, i: x) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.between = between
        self.convolutions = nn.ModuleList(nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1) for i in range(4))
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        for i, convolution in enumerate(self.convolutions):
            x = self.between(self, self.norm(convolution(x)).relu() if i == 3 else convolution(x).relu(), i)
        return self.head(x.mean((2, 3)))


def bound(net: nn.Module) -> Channels:
    return Channels().bind(net, prunable_weights(net), X)


def kept(net: nn.Module) -> set[int]:
    """The convolutions whose channels stay."""
    cut = bound(net).numbers
    return {i for i in range(4) if f"convolutions.{i}.weight" not in cut}


def only(at: int, change: Callable[[Tensor], Tensor]) -> Forward:
    return lambda m, x, i: change(x) if i == at else x


FAULTS: dict[str, tuple[Forward, set[int], str]] = {
    "a written-out number": (only(1, lambda x: x.reshape(-1, 8, 8, 8)), {1}, "shape '\\[-1, 8, 8, 8\\]' is invalid"),
    "a first and a last one": (
        lambda m, x, i: x.reshape(-1, 8, 8, 8) if i in (0, 3) else x, {0, 3}, "shape '\\[-1, 8, 8, 8\\]' is invalid"),
    "every one": (lambda m, x, i: x.reshape(-1, 8, 8, 8) if i < 3 else x, {0, 1, 2}, "shape"),
    "a number divided by": (
        only(2, lambda x: x.view(2, x.shape[1] // 4, 4, 8, 8).reshape(2, -1, 8, 8)), {2}, "shape|size|channels"),
    "a number that changes what is computed": (
        only(1, lambda x: x * (1 + (x.shape[1] != 8))), {1}, "differs from the masked one by .* in eval mode and by"),
    "noise around 0 that is multiplied by it": (
        only(1, lambda x: x + torch.randn(2, 1, 1, 1) * x * (x.shape[1] != 8)), {1}, "differs from the masked one"),
    "a uniform number around 0 that is multiplied by it": (
        only(2, lambda x: x + (torch.rand(2, 1, 1, 1) - 0.5) * x * (x.shape[1] != 8)), {2}, "differs from the masked"),
    "in train mode alone": (
        lambda m, x, i: x * (1 + (x.shape[1] != 8)) if m.training and i == 2 else x, {2}, "by [^ ]* in train mode$"),
}  # fmt: skip


def test_neither_a_gate_at_0_nor_a_large_constant_beside_hides_a_difference() -> None:
    wrong = only(2, lambda x: x * (1 + 0.1 * (x.shape[1] != 8)))
    gated = Net(lambda m, x, i: x + m.gate * wrong(m, x, i))
    gated.gate = nn.Parameter(torch.zeros(1))
    assert kept(gated) == {2}
    ruled_out = Net(wrong)
    ruled_out.head.register_forward_hook(lambda m, args, out: out.masked_fill(torch.arange(5) > 2, -1e9))
    assert kept(ruled_out) == {2}


@pytest.mark.parametrize(("between", "faulty", "why"), FAULTS.values(), ids=FAULTS)
def test_the_groups_at_fault_are_kept_with_the_reason_and_the_others_can_be_cut(
    between: Forward, faulty: set[int], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    net = Net(between)
    units = bound(net)
    assert units.numbers.keys() == {f"convolutions.{i}.weight" for i in range(4) if i not in faulty}
    lines = [record.getMessage() for record in caplog.records if "channels of" in record.getMessage()]
    for i in faulty:
        assert sum(f"convolutions.{i}.weight" in line and bool(re.search(why, line)) for line in lines) == 1
    keep = {name: torch.arange(len(numbers)) % 2 == 0 for name, numbers in units.numbers.items()}
    mask(net, units.expand(keep), units.norms)
    check = EquivalenceCheck(net, X)
    shrink(net, units.plan(keep))
    check.certify(net)


def test_a_budget_beyond_the_groups_that_are_kept_is_refused_with_the_largest_rate() -> None:
    def largest(net: nn.Module, skip: Sequence[str] = ()) -> float:
        units = Channels().bind(net, prunable_weights(net, skip), X)
        budget = Budget("params").bind(net, units, X)
        scores = units.reduce({name: torch.rand_like(weight) for name, weight in prunable_weights(net).items()})
        with pytest.raises(ValueError, match=f"at most {math.floor(1e4 * budget.reachable) / 1e4} can be removed"):
            budget(Uniform(), scores, 0.95)
        assert budget.attained(budget(Uniform(), scores, 0.4)) == pytest.approx(0.4, abs=0.02)
        return budget.reachable

    kept_by_proof = largest(Net(lambda m, x, i: x.reshape(-1, 8, 8, 8) if i in (0, 3) else x))
    assert kept_by_proof == largest(Net(), ["convolutions.0.weight", "convolutions.3.weight"])


def test_the_line_of_the_networks_code_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class View(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.convolutions[0](x).mean((2, 3)).view(-1, 8))  # the line

    with pytest.raises(ValueError, match="no filters or neurons or heads or channels under LayerNorm to prune"):
        bound(View())
    assert "(at " in caplog.text
    assert "# the line`)" in caplog.text


def test_the_answer_does_not_depend_on_weights() -> None:
    """A norm that begins at 0 hides what is behind it, and so do masks."""
    net = Net(only(1, lambda x: x * (1 + (x.shape[1] != 8))))
    assert kept(net) == {1}
    nn.init.zeros_(net.norm.weight)
    assert kept(net) == {1}
    for parameter in net.parameters():
        nn.init.constant_(parameter, torch.nan)
    assert kept(net) == {1}


def test_a_proof_leaves_the_network_and_random_streams_alone() -> None:
    net = Net(only(1, lambda x: x.reshape(-1, 8, 8, 8) + 0 * torch.randn_like(x)))
    net.norm.eval()
    before, modes, stream = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()], torch.get_rng_state()
    identity = [id(p) for p in net.parameters()]
    bound(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert [id(p) for p in net.parameters()] == identity
    assert torch.equal(torch.get_rng_state(), stream)


def test_a_network_without_faults_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trials: list[int] = []
    monkeypatch.setattr(proof, "shrink", lambda *args: trials.append(1) or shrink(*args))
    assert kept(Net()) == set()
    assert len(trials) == 1


def test_a_network_that_does_not_run_on_random_inputs_keeps_its_groups_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert kept(Net(lambda m, x, i: x / (0 if m.training else 1))) == set()
    assert "what Net can lose is not proved before training: the outputs of a copy are not finite" in caplog.text


def test_what_cannot_be_copied_keeps_its_groups_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    net = Net(only(1, lambda x: x.reshape(-1, 8, 8, 8)))
    net.uncopied = (x for x in ())
    assert kept(net) == set()
    assert "Net cannot be copied" in caplog.text


@pytest.mark.filterwarnings("ignore:The tensor attribute .* was assigned during export")
def test_weights_that_a_hook_computes_are_copied_without_their_graph() -> None:
    net = Net(only(2, lambda x: x.reshape(-1, 8, 8, 8)))
    nn.utils.prune.l1_unstructured(net.convolutions[0], "weight", 0.5)
    assert kept(net) == {0, 2}


@pytest.mark.parametrize("units", [2, 3, 4, 6, 8, 10, 12, 64, 65])
def test_the_number_that_a_trial_leaves_divides_nothing(units: int) -> None:
    left = int(proof._about_half("conv", units).sum())
    assert 0 < left < units
    assert torch.gcd(torch.tensor(left), torch.tensor(units)) == 1
    assert abs(2 * left - units) <= 4


def brute(names: list[str], fails: Callable[[frozenset[str]], bool]) -> set[frozenset[str]]:
    """The largest sets that do not fail, among all."""
    sets = [frozenset(n for i, n in enumerate(names) if bits >> i & 1) for bits in range(2 ** len(names))]
    passing = [s for s in sets if not fails(s)]
    return {s for s in passing if not any(s < other for other in passing)}


def test_halving_finds_a_largest_set_that_passes_also_where_groups_fail_only_together() -> None:
    names = list("abcdefg")
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        pairs = [{names[int(i)] for i in torch.randint(7, (2,), generator=generator)} for _ in range(3)]
        fails = lambda s, pairs=pairs: any(pair <= set(s) for pair in pairs)  # noqa: E731
        reasons: dict[str, str] = {}
        passed = proof.bisect((), names, lambda some, fails=fails: "it fails" if fails(some) else None, reasons)
        assert frozenset(passed) in brute(names, fails)
        assert set(passed) | reasons.keys() == set(names)


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (nn.Conv2d(6, 64, 3, groups=2), 3 * 9),
        (nn.ConvTranspose2d(64, 6, 3, groups=2), 32 * 9),
        (nn.Linear(50, 20), 50),
    ],
)
def test_random_weights_have_the_variance_of_their_fan_in(layer: nn.Module, fan_in: int) -> None:
    proof._randomise(layer)
    largest = layer.weight.abs().max().item() / math.sqrt(3 / fan_in)  # of U(-a, a), a^2 = 3 / fan-in
    assert 0.98 < largest <= 1
